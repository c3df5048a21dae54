//! What one CPU remembers of the page tables: translations of 4 KiB pieces, and the tables it found
//! on its way down (the paging-structure caches of the hardware).
//!
//! An entry goes only when the CPU is told so (or by seeded random eviction): a flush that is
//! missing is found, not hidden by the cache's size. Every entry holds a reference count on its
//! frame in the oracle.

use super::oracle::Oracle;
use crate::addr::{PAGE_SHIFT, Pfn, VirtAddr, entries, shift};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Multiplication spreads page numbers well enough; the keys come from no adversary.
#[derive(Default)]
pub(super) struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type PageMap<V> = HashMap<u64, V, BuildHasherDefault<PageHasher>>;

/// The number of the page.
fn vpn(va: VirtAddr) -> u64 {
    va.0 >> PAGE_SHIFT
}

/// The number of the huge page that a page is a piece of.
fn huge_of(vpn: u64) -> u64 {
    vpn >> (shift(1) - PAGE_SHIFT)
}

/// A cached translation of one 4 KiB piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Translation {
    pub(super) pfn: Pfn,
    /// Writes are allowed at every level.
    pub(super) write: bool,
    /// The dirty bit was set when this was cached: writes need not walk again.
    pub(super) dirty: bool,
    /// A piece of a larger page.
    pub(super) huge: bool,
    /// The frame's generation when this was cached.
    pub(super) generation: u32,
}

/// A cached pointer to a lower table.
#[derive(Clone, Copy)]
pub(super) struct TableRef {
    pub(super) table: Pfn,
    /// Writes are allowed down to here.
    pub(super) write: bool,
    pub(super) generation: u32,
}

/// Level 1: PTE tables by what they map; 2: PMD tables; 3: PUD tables.
const TABLE_LEVELS: u32 = 3;

fn table_key(va: VirtAddr, level: u32) -> u64 {
    // The level in the low bits keeps the keys of the three levels apart.
    (va.0 >> shift(level)) << 2 | u64::from(level)
}

pub(super) struct Tlb {
    pub(super) root: Pfn,
    pages: PageMap<Translation>,
    tables: PageMap<TableRef>,
    /// Pieces cached of each huge page, by its number: dropping one drops all.
    huge: PageMap<u32>,
    rng: u64,
    /// Out of 1024 uses, how many are followed by an eviction.
    evict: u32,
}

impl Tlb {
    pub(super) fn new(root: Pfn, seed: u64, evict: u32) -> Self {
        Self {
            root,
            pages: PageMap::default(),
            tables: PageMap::default(),
            huge: PageMap::default(),
            rng: seed | 1,
            evict,
        }
    }

    pub(super) fn get(&self, va: VirtAddr) -> Option<Translation> {
        self.pages.get(&vpn(va)).copied()
    }

    /// Caches `t` for the page of `va`, in place of what was there.
    pub(super) fn insert(&mut self, va: VirtAddr, t: Translation, oracle: &Oracle) {
        self.remove(vpn(va), oracle);
        oracle.hold(t.pfn);
        if t.huge {
            *self.huge.entry(huge_of(vpn(va))).or_default() += 1;
        }
        self.pages.insert(vpn(va), t);
    }

    fn remove(&mut self, vpn: u64, oracle: &Oracle) -> Option<Translation> {
        let t = self.pages.remove(&vpn)?;
        oracle.drop_hold(t.pfn);
        if t.huge
            && let Some(n) = self.huge.get_mut(&huge_of(vpn))
        {
            *n -= 1;
            if *n == 0 {
                self.huge.remove(&huge_of(vpn));
            }
        }
        Some(t)
    }

    /// The lowest cached table on the way to `va`, with its level.
    pub(super) fn table(&self, va: VirtAddr) -> Option<(u32, TableRef)> {
        if self.tables.is_empty() {
            return None;
        }
        (1..=TABLE_LEVELS).find_map(|level| {
            let t = self.tables.get(&table_key(va, level))?;
            Some((level, *t))
        })
    }

    /// Caches that the entry of `level` for `va` points to the table `t`.
    pub(super) fn insert_table(&mut self, va: VirtAddr, level: u32, t: TableRef, oracle: &Oracle) {
        oracle.hold(t.table);
        if let Some(old) = self.tables.insert(table_key(va, level), t) {
            oracle.drop_hold(old.table);
        }
    }

    /// INVLPG: the page's translation, every piece if it is part of a huge page, and all cached
    /// tables.
    pub(super) fn invlpg(&mut self, va: VirtAddr, oracle: &Oracle) {
        self.remove(vpn(va), oracle);
        if self.huge.contains_key(&huge_of(vpn(va))) {
            let pieces = entries(0) as u64;
            let first = vpn(va) & !(pieces - 1);
            for vpn in first..first + pieces {
                if self.pages.get(&vpn).is_some_and(|t| t.huge) {
                    self.remove(vpn, oracle);
                }
            }
        }
        self.drop_tables(oracle);
    }

    fn drop_tables(&mut self, oracle: &Oracle) {
        for (_, t) in self.tables.drain() {
            oracle.drop_hold(t.table);
        }
    }

    /// Everything goes. (The user half has no global entries.)
    pub(super) fn flush(&mut self, oracle: &Oracle) {
        for (_, t) in self.pages.drain() {
            oracle.drop_hold(t.pfn);
        }
        self.huge.clear();
        self.drop_tables(oracle);
    }

    /// Everything goes, and `root` is walked from now on.
    pub(super) fn load_root(&mut self, root: Pfn, oracle: &Oracle) {
        self.flush(oracle);
        oracle.hold(root);
        oracle.drop_hold(self.root);
        self.root = root;
    }

    /// Now and then drops the translation just used, if the machine was configured so.
    pub(super) fn maybe_evict(&mut self, va: VirtAddr, oracle: &Oracle) {
        if self.evict == 0 {
            return;
        }
        // xorshift64
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        if (self.rng >> 32) as u32 & 1023 < self.evict {
            self.remove(vpn(va), oracle);
        }
    }

    /// Every cached translation to `pfn`, as page addresses.
    pub(super) fn translations_to(&self, pfn: Pfn) -> impl Iterator<Item = VirtAddr> + '_ {
        self.pages
            .iter()
            .filter(move |(_, t)| t.pfn == pfn)
            .map(|(vpn, _)| VirtAddr(vpn << 12))
    }

    /// The root is `pfn`, or a cached table is.
    pub(super) fn walks_through(&self, pfn: Pfn) -> bool {
        self.root == pfn || self.tables.values().any(|t| t.table == pfn)
    }
}
