//! The binary buddy allocator over page frames: blocks of `2^order` frames, aligned to their size.
//!
//! Source: Knowlton, "A fast storage allocator" (CACM 8/1965); Knuth, TAOCP vol. 1, 2.5, algorithms
//! R and S. The bit map of non-empty orders makes the search for a block one instruction.
//!
//! Locks: the zone lock of the caller, around every call. Never sleeps. A freed frame carries the
//! Release of that lock to the next owner; nothing else is ordered here.

use crate::{Corrupt, Links, List, NIL, ensure};

/// The largest order: 1024 frames, 4 MiB.
pub const MAX_ORDER: u8 = 10;
const NR_ORDERS: usize = MAX_ORDER as usize + 1;

/// The state of each frame that the allocator needs, beside the list links of free heads.
///
/// Must answer for every frame of the zone's span, also for those in holes (never free).
pub trait Frames: Links {
    /// `Some(order)` exactly for the first frame of a free block that a [`Buddy`] holds.
    fn free_order(&self, pfn: u32) -> Option<u8>;
    /// `pfn` is now the first frame of a free block of `order`.
    fn set_free(&self, pfn: u32, order: u8);
    /// `pfn` is no longer the first frame of a free block.
    fn clear_free(&self, pfn: u32);
}

/// The block that was to be freed is free already, wholly or in part. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoubleFree {
    /// First frame of the free block it lies in.
    pub head: u32,
    /// Order of that block.
    pub order: u8,
}

/// The block that was to be taken is not wholly free. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotFree;

/// One zone: the free blocks inside the span `[start, end)`.
#[derive(Debug)]
pub struct Buddy {
    free: [List; NR_ORDERS],
    /// Bit `k` is set exactly when `free[k]` is not empty.
    non_empty: u32,
    free_pages: u32,
    start: u32,
    end: u32,
}

impl Default for Buddy {
    fn default() -> Self {
        Self::new()
    }
}

impl Buddy {
    /// A zone without frames.
    pub const fn new() -> Self {
        Self {
            free: [const { List::new() }; NR_ORDERS],
            non_empty: 0,
            free_pages: 0,
            start: 0,
            end: 0,
        }
    }

    /// The span `[start, end)` in frames: every range added so far, and the holes between them.
    pub const fn span(&self) -> (u32, u32) {
        (self.start, self.end)
    }

    /// Free frames in all blocks.
    #[inline]
    pub const fn free_pages(&self) -> u32 {
        self.free_pages
    }

    /// Free blocks of exactly `order`; 0 above [`MAX_ORDER`].
    #[inline]
    pub fn nr_free(&self, order: u8) -> u32 {
        self.free.get(usize::from(order)).map_or(0, List::len)
    }

    /// The free blocks of exactly `order`, the next to be allocated first. None above
    /// [`MAX_ORDER`].
    pub fn blocks<'a, F: Frames + ?Sized>(
        &self,
        frames: &'a F,
        order: u8,
    ) -> impl Iterator<Item = u32> + use<'a, F> {
        self.free
            .get(usize::from(order))
            .unwrap_or(&List::new())
            .iter(frames)
    }

    /// The largest order that [`Buddy::alloc`] can serve now.
    #[inline]
    pub const fn largest_order(&self) -> Option<u8> {
        match self.non_empty.checked_ilog2() {
            Some(k) => Some(k as u8),
            None => None,
        }
    }

    /// Extends the span over `[start, end)` and frees its frames, in blocks as large as alignment
    /// allows.
    ///
    /// # Errors
    /// [`DoubleFree`] when a frame of the range is free already; those before it stay added.
    pub fn add_range<F: Frames + ?Sized>(
        &mut self,
        frames: &F,
        start: u32,
        end: u32,
    ) -> Result<(), DoubleFree> {
        if start >= end {
            return Ok(());
        }
        if self.start == self.end {
            (self.start, self.end) = (start, end);
        } else {
            self.start = self.start.min(start);
            self.end = self.end.max(end);
        }
        let mut pfn = start;
        while pfn < end {
            let aligned = pfn.trailing_zeros();
            let fits = (end - pfn).ilog2();
            let order = aligned.min(fits).min(u32::from(MAX_ORDER)) as u8;
            self.free(frames, pfn, order)?;
            pfn += 1 << order;
        }
        Ok(())
    }

    /// A block of `2^order` frames, or `None` when there is none that large (always above
    /// [`MAX_ORDER`]). The rest of a larger block goes back to the lists.
    #[inline]
    pub fn alloc<F: Frames + ?Sized>(&mut self, frames: &F, order: u8) -> Option<u32> {
        if order > MAX_ORDER {
            return None;
        }
        let usable = self.non_empty >> order;
        if usable == 0 {
            return None;
        }
        let from = order + usable.trailing_zeros() as u8;
        let pfn = self.free[usize::from(from)].pop_front(frames)?;
        self.after_removal(from);
        frames.clear_free(pfn);
        let mut k = from;
        while k > order {
            k -= 1;
            self.put(frames, pfn + (1 << k), k);
        }
        self.free_pages -= 1 << order;
        Some(pfn)
    }

    /// Gives a block back and merges it with its buddies as long as they are free and inside the
    /// span.
    ///
    /// # Errors
    /// [`DoubleFree`] when the block is, or lies in, a free block. (A larger block of which a part
    /// is already free is not noticed here, but by [`Buddy::validate`].)
    ///
    /// # Panics
    /// If the block is not aligned, larger than [`MAX_ORDER`] or outside the span: no such block
    /// was ever allocated.
    #[inline]
    pub fn free<F: Frames + ?Sized>(
        &mut self,
        frames: &F,
        mut pfn: u32,
        mut order: u8,
    ) -> Result<(), DoubleFree> {
        let size = 1u32 << order;
        assert!(
            order <= MAX_ORDER
                && pfn & (size - 1) == 0
                && pfn >= self.start
                && pfn < self.end
                && size <= self.end - pfn,
            "freeing pfn {pfn:#x} order {order}: not a block of the zone"
        );
        if let Some((head, order)) = self.free_block_of(frames, pfn) {
            return Err(DoubleFree { head, order });
        }
        self.free_pages += size;
        while order < MAX_ORDER {
            let buddy = pfn ^ (1 << order);
            if buddy < self.start || buddy >= self.end || frames.free_order(buddy) != Some(order) {
                break;
            }
            self.unlink(frames, buddy, order);
            pfn &= buddy;
            order += 1;
        }
        self.put(frames, pfn, order);
        Ok(())
    }

    /// The free block (first frame, order) that contains `pfn`. The candidates are the frames left
    /// when the low bits of `pfn` that are set are cleared one after the other: at most 11.
    #[inline]
    pub fn free_block_of<F: Frames + ?Sized>(&self, frames: &F, pfn: u32) -> Option<(u32, u8)> {
        let lowest = pfn & !((1 << MAX_ORDER) - 1);
        let mut head = pfn;
        loop {
            if head < self.start || head >= self.end {
                return None;
            }
            if let Some(order) = frames.free_order(head) {
                // A smaller free block before `pfn` proves that no larger one spans both.
                return (pfn - head < 1 << order).then_some((head, order));
            }
            if head == lowest {
                return None;
            }
            head &= head - 1;
        }
    }

    /// Takes exactly the block `pfn`, `order` out of the free memory; what remains of a larger free
    /// block stays free.
    ///
    /// # Errors
    /// [`NotFree`] when a frame of it is not free, or it is not a block of the zone.
    pub fn take<F: Frames + ?Sized>(
        &mut self,
        frames: &F,
        pfn: u32,
        order: u8,
    ) -> Result<(), NotFree> {
        if order > MAX_ORDER || pfn & ((1 << order) - 1) != 0 {
            return Err(NotFree);
        }
        // Free buddies are always merged, so an aligned free range lies in one free block.
        let (mut head, from) = self.free_block_of(frames, pfn).ok_or(NotFree)?;
        if from < order {
            return Err(NotFree);
        }
        self.unlink(frames, head, from);
        for k in (order..from).rev() {
            let upper = head + (1 << k);
            if pfn >= upper {
                self.put(frames, head, k);
                head = upper;
            } else {
                self.put(frames, upper, k);
            }
        }
        self.free_pages -= 1 << order;
        Ok(())
    }

    #[inline]
    fn put<F: Frames + ?Sized>(&mut self, frames: &F, pfn: u32, order: u8) {
        frames.set_free(pfn, order);
        self.free[usize::from(order)].push_front(frames, pfn);
        self.non_empty |= 1 << order;
    }

    #[inline]
    fn unlink<F: Frames + ?Sized>(&mut self, frames: &F, pfn: u32, order: u8) {
        self.free[usize::from(order)].remove(frames, pfn);
        self.after_removal(order);
        frames.clear_free(pfn);
    }

    #[inline]
    fn after_removal(&mut self, order: u8) {
        let empty = self.free[usize::from(order)].is_empty();
        self.non_empty &= !(u32::from(empty) << order);
    }

    /// Recounts everything: each frame of the span, each list, each counter. O(span).
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate<F: Frames + ?Sized>(&self, frames: &F) -> Result<(), Corrupt> {
        let mut heads = [0u32; NR_ORDERS];
        let mut pages = 0;
        // Frames below `covered` belong to a free block already seen.
        let mut covered = self.start;
        for pfn in self.start..self.end {
            let Some(order) = frames.free_order(pfn) else {
                continue;
            };
            ensure(order <= MAX_ORDER, "buddy: order out of range", pfn)?;
            ensure(pfn >= covered, "buddy: free block inside another", pfn)?;
            let size = 1 << order;
            ensure(pfn & (size - 1) == 0, "buddy: block not aligned", pfn)?;
            ensure(size <= self.end - pfn, "buddy: block outside the span", pfn)?;
            let buddy = pfn ^ size;
            let merged = order == MAX_ORDER
                || buddy < self.start
                || buddy >= self.end
                || frames.free_order(buddy) != Some(order);
            ensure(merged, "buddy: two free buddies not merged", pfn)?;
            covered = pfn + size;
            heads[usize::from(order)] += 1;
            pages += size;
        }
        for (order, list) in (0u8..).zip(&self.free) {
            list.validate(frames)?;
            for pfn in list.iter(frames) {
                let listed = frames.free_order(pfn) == Some(order);
                ensure(listed, "buddy: block on the list of another order", pfn)?;
                let inside = pfn >= self.start && pfn < self.end;
                ensure(inside, "buddy: listed block outside the span", pfn)?;
            }
            let counted = heads[usize::from(order)];
            ensure(counted == list.len(), "buddy: free block on no list", NIL)?;
            let bit = self.non_empty >> order & 1 != 0;
            ensure(
                bit != list.is_empty(),
                "buddy: bit map of orders wrong",
                NIL,
            )?;
        }
        ensure(
            self.non_empty >> NR_ORDERS == 0,
            "buddy: bit map of orders wrong",
            NIL,
        )?;
        ensure(
            pages == self.free_pages,
            "buddy: free page count wrong",
            NIL,
        )
    }
}

#[cfg(test)]
mod tests;
