//! Regions of physical memory, and the list of them that the real machine boots with: sorted, whole
//! pages, every page in at most one region. No locks, no allocation.

use crate::addr::PhysAddr;

/// What a region of physical memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// RAM for the memory manager.
    Usable,
    /// RAM that holds the kernel image and what was allocated before the memory manager ran.
    Kernel,
    /// Reserved by the firmware (or not addressable by the kernel); never touched.
    Firmware,
}

/// A region of physical memory, page aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemRegion {
    /// First byte.
    pub start: PhysAddr,
    /// First byte after it.
    pub end: PhysAddr,
    /// What it is.
    pub kind: RegionKind,
}

/// Most regions that are kept.
#[cfg(any(target_os = "none", test))]
const MAX_REGIONS: usize = 128;

/// A list of regions without an allocator.
#[cfg(any(target_os = "none", test))]
#[derive(Clone, Copy)]
pub(crate) struct Regions {
    all: [MemRegion; MAX_REGIONS],
    len: usize,
}

#[cfg(any(target_os = "none", test))]
impl Regions {
    pub(crate) const fn new() -> Self {
        let none = MemRegion {
            start: PhysAddr(0),
            end: PhysAddr(0),
            kind: RegionKind::Firmware,
        };
        Self {
            all: [none; MAX_REGIONS],
            len: 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[MemRegion] {
        &self.all[..self.len]
    }

    /// Appends; joins with the last region where they touch and are alike. Empty regions are
    /// dropped.
    ///
    /// # Panics
    /// When there are more regions than any firmware is known to report.
    pub(crate) fn push(&mut self, start: u64, end: u64, kind: RegionKind) {
        if start >= end {
            return;
        }
        if let Some(last) = self.all[..self.len].last_mut()
            && last.kind == kind
            && last.end.0 == start
        {
            last.end = PhysAddr(end);
            return;
        }
        assert!(
            self.len < MAX_REGIONS,
            "more than {MAX_REGIONS} memory regions"
        );
        self.all[self.len] = MemRegion {
            start: PhysAddr(start),
            end: PhysAddr(end),
            kind,
        };
        self.len += 1;
    }

    /// Sorts, and settles overlaps: what the firmware keeps anywhere is kept, and the kernel's goes
    /// before usable.
    pub(crate) fn settle(&mut self) {
        let before = *self;
        let regions = before.as_slice();
        let mut edges = [0; 2 * MAX_REGIONS];
        for (pair, r) in edges.as_chunks_mut().0.iter_mut().zip(regions) {
            *pair = [r.start.0, r.end.0];
        }
        let edges = &mut edges[..2 * regions.len()];
        edges.sort_unstable();
        self.len = 0;
        for piece in edges.windows(2) {
            let covers = |kind| {
                let mut alike = regions.iter().filter(|r| r.kind == kind);
                alike.any(|r| r.start.0 <= piece[0] && piece[1] <= r.end.0)
            };
            let kinds = [RegionKind::Firmware, RegionKind::Kernel, RegionKind::Usable];
            if let Some(kind) = kinds.into_iter().find(|k| covers(*k)) {
                self.push(piece[0], piece[1], kind);
            }
        }
    }

    /// Marks `[start, end)` as the kernel's wherever it is usable. The list is settled, and stays
    /// so.
    pub(crate) fn claim(&mut self, start: u64, end: u64) {
        let before = *self;
        self.len = 0;
        for r in before.as_slice() {
            let (s, e) = (r.start.0.max(start), r.end.0.min(end));
            if r.kind != RegionKind::Usable || s >= e {
                self.push(r.start.0, r.end.0, r.kind);
                continue;
            }
            self.push(r.start.0, s, RegionKind::Usable);
            self.push(s, e, RegionKind::Kernel);
            self.push(e, r.end.0, RegionKind::Usable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RegionKind::{Firmware, Kernel, Usable};

    fn list(regions: &[(u64, u64, RegionKind)]) -> Regions {
        let mut list = Regions::new();
        for &(start, end, kind) in regions {
            list.push(start, end, kind);
        }
        list
    }

    fn shown(list: &Regions) -> Vec<(u64, u64, RegionKind)> {
        let all = list.as_slice().iter();
        all.map(|r| (r.start.0, r.end.0, r.kind)).collect()
    }

    #[test]
    fn settling_sorts_joins_and_lets_the_firmware_win() {
        let mut l = list(&[
            (50, 60, Usable),
            (0, 20, Usable),
            (10, 30, Firmware),
            (20, 40, Usable),
            (60, 70, Usable),
        ]);
        l.settle();
        assert_eq!(
            shown(&l),
            [
                (0, 10, Usable),
                (10, 30, Firmware),
                (30, 40, Usable),
                (50, 70, Usable)
            ]
        );
    }

    #[test]
    fn claiming_takes_usable_memory_only() {
        let mut l = list(&[(0, 10, Usable), (10, 20, Firmware), (20, 40, Usable)]);
        l.claim(5, 25);
        assert_eq!(
            shown(&l),
            [
                (0, 5, Usable),
                (5, 10, Kernel),
                (10, 20, Firmware),
                (20, 25, Kernel),
                (25, 40, Usable)
            ]
        );
        l.claim(100, 200);
        assert_eq!(l.as_slice().len(), 5);
        l.claim(25, 40);
        assert_eq!(shown(&l).last(), Some(&(20, 40, Kernel)));
    }

    /// Against one kind per page.
    #[test]
    fn every_page_keeps_its_kind() {
        const PAGES: u64 = 64;
        let mut seed = 0x1234_5678_9abc_def1u64;
        let mut next = |n: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 20) % n
        };
        for _ in 0..500 {
            let mut model = [None; PAGES as usize];
            let mut l = Regions::new();
            for _ in 0..12 {
                let (start, len) = (next(PAGES), next(16) + 1);
                let end = (start + len).min(PAGES);
                let kind = if next(3) == 0 { Firmware } else { Usable };
                l.push(start, end, kind);
                for page in &mut model[start as usize..end as usize] {
                    if *page != Some(Firmware) {
                        *page = Some(kind);
                    }
                }
            }
            l.settle();
            for _ in 0..3 {
                let (start, end) = (next(PAGES), next(PAGES));
                l.claim(start, end);
                for page in model.iter_mut().take(end as usize).skip(start as usize) {
                    if *page == Some(Usable) {
                        *page = Some(Kernel);
                    }
                }
            }
            let mut found = [None; PAGES as usize];
            for (start, end, kind) in shown(&l) {
                for page in &mut found[start as usize..end as usize] {
                    assert_eq!(page.replace(kind), None, "a page in two regions");
                }
            }
            assert_eq!(found, model);
        }
    }
}
