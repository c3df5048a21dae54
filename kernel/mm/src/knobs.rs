//! The switches: each rule of order that a test may break on purpose, and other ways of doing a
//! thing (*variants*) that can be chosen to compare them.
//!
//! A rule is on by default, a variant off. Without the `lab` feature [`on`] is the constant
//! default: the fixed path is compiled in and costs nothing. Takes no lock.

macro_rules! knobs {
    (
        rules { $($name:ident = $text:literal, rule $rule:literal, $help:literal;)* }
        variants { $($other:ident = $other_text:literal, $other_help:literal;)* }
    ) => {
        /// One switch.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Knob { $(#[doc = $help] $name,)* $(#[doc = $other_help] $other),* }
        impl Knob {
            /// Every knob: itself, the name that `fix` takes, the rule of order it belongs to (a
            /// variant: none), what it does.
            pub const ALL: &'static [(Knob, &'static str, Option<u8>, &'static str)] = &[
                $((Knob::$name, $text, Some($rule), $help),)*
                $((Knob::$other, $other_text, None, $other_help)),*
            ];
        }
    };
}

knobs! {
    rules {
        TlbFlush = "tlb_flush", rule 1, "the gather flushes every CPU before it frees frames";
        TableFlush = "table_flush", rule 5, "page-table pages are freed only after the shootdown IPI";
        WpFlush = "wp_flush", rule 3, "fork and mprotect flush after taking the write bit away";
        PmdRecheck = "pmd_recheck", rule 4, "a table is installed under the pmd lock after looking again";
        AckIrqsOn = "ack_irqs_on", rule 6, "interrupts stay on while waiting for an acknowledgement";
        ReclaimFlush = "reclaim_flush", rule 1, "reclaim flushes every CPU between unmapping and writing or freeing";
        SlotBeforePte = "slot_before_pte", rule 7, "the folio is in the swap cache before its entry names the slot";
        CowFlush = "cow_flush", rule 1, "a copy on write flushes every CPU before the copy is mapped";
        BatchedPending = "batched_pending", rule 1, "operations flush first what reclaim has put off";
        GatheredPending = "gathered_pending", rule 1, "mprotect, private copies and other gathers flush as well what a gather has put off";
        LazyFlush = "lazy_flush", rule 3, "MADV_FREE flushes after clearing dirty bits";
        PteRecheck = "pte_recheck", rule 4, "a fault looks at the entry again under its lock";
        SwapinWait = "swapin_wait", rule 7, "a page is mapped only after it was read from the disk";
        FreeAfterWrite = "free_after_write", rule 7, "a frame is freed only after its swap write has succeeded";
        FailedDirty = "failed_dirty", rule 7, "a page whose write failed stays dirty and in memory";
        DelayRmap = "delay_rmap", rule 2, "a zapped dirty file entry counts as mapped until every CPU has been flushed";
        FlushBeforeUnlock = "flush_before_unlock", rule 2, "dirty file entries are flushed before their table is unlocked";
        MkcleanSync = "mkclean_sync", rule 2, "cleaning a folio's entries takes the lock of each, whatever a look without it says";
        KeepLocked = "keep_locked", rule 13, "reclaim keeps a folio locked and in hand from the loss of an entry until the flush";
        CleanFlush = "clean_flush", rule 3, "cleaning a folio flushes every CPU after taking the right to write away";
        CleanFirst = "clean_first", rule 9, "a page is made read-only everywhere before its content goes to the disk";
        SyncWait = "sync_wait", rule 9, "a sync waits for every write of its range, whoever began it";
        SyncFlush = "sync_flush", rule 9, "a sync flushes the disk's cache after the writes and before it returns";
        FailedTold = "failed_told", rule 9, "a failed write or flush is noted for every opener before its waiters go on";
        TruncateSize = "truncate_size", rule 10, "truncation sets the size before it unmaps and removes pages";
        TruncateUnmap = "truncate_unmap", rule 10, "truncation unmaps a page once more under its folio lock before it leaves the cache";
        TruncateCopies = "truncate_copies", rule 10, "truncation takes away what private areas have copied meanwhile";
        SoleByRefs = "sole_by_refs", rule 14, "a folio is mine alone only if nobody else holds a reference, whatever its mapcount";
        MissedGen = "missed_gen", rule 1, "a CPU that has missed more than one request flushes everything";
        AckedFirst = "acked_first", rule 1, "others hear of a flush only once every CPU has acknowledged it";
        MoveFlush = "move_flush", rule 1, "a move flushes before reverse walks can see the new place";
        SlotRecheck = "slot_recheck", rule 4, "a folio is asked for its slot again once it is locked";
        GrowRecheck = "grow_recheck", rule 4, "a stack grows only after another look with its areas locked";
        ForkDirty = "fork_dirty", rule 7, "a fork copies the dirty bit as it was when the write bit went";
        UnlinkFirst = "unlink_first", rule 5, "tables go only after their areas have left the reverse maps";
        CutOverlap = "cut_overlap", rule 16, "where an area is cut in two or joined, reverse walks find each page in one of them";
        ZapFirst = "zap_first", rule 16, "pages of files are unmapped before their area gets shorter";
        ForkLinked = "fork_linked", rule 16, "a child's area is in its file's tree before it gets entries";
        ChildAfter = "child_after", rule 16, "a child's area comes after its parent's in the reverse maps";
        MigrateFlush = "migrate_flush", rule 1, "a page that moves is copied only after every CPU has forgotten its frame";
        MigrateFreeze = "migrate_freeze", rule 17, "a page moves only if nobody else holds a reference on it";
        MigrateShared = "migrate_shared", rule 17, "a fork makes a page that is moving one of both address spaces";
        MigrateCopy = "migrate_copy", rule 17, "a page that moves is copied before an entry leads to its new frame";
        MigrateWait = "migrate_wait", rule 17, "a fault waits for a page that moves without a reference on it";
        HugeFlush = "huge_flush", rule 11, "a huge page is made invalid and flushed before its pages are mapped one by one";
        FatOrder = "fat_order", rule 15, "a cluster of a FAT volume is free only once nothing durable leads to it";
    }
    variants {
        LateDirty = "late_dirty", "a zapped entry makes its folio dirty after the flush, with the table still locked";
        LateDirtyUnlocked = "late_dirty_unlocked", "a zapped entry is flushed and makes its folio dirty after the table is unlocked (breaks sync)";
        LateDirtyPending = "late_dirty_pending", "as late_dirty_unlocked, but cleaning waits for folios that are still to be made dirty";
        ImmediateGather = "immediate_gather", "every zapped entry is flushed and freed by itself, with the table locked";
    }
}

impl Knob {
    /// The name that `fix` takes.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
    /// The knob of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|k| k.1 == name).map(|k| k.0)
    }
    /// How it stands unless somebody switches it: a rule on, a variant off.
    #[inline(always)]
    pub const fn usual(self) -> bool {
        Self::ALL[self as usize].2.is_some()
    }
}

#[cfg(feature = "lab")]
mod switch {
    use super::Knob;
    use core::sync::atomic::{AtomicU64, Ordering};
    /// Those that do not stand as usual.
    static SWITCHED: AtomicU64 = AtomicU64::new(0);

    /// Whether the rule is kept, or the variant chosen.
    #[inline]
    pub fn on(k: Knob) -> bool {
        let as_usual = SWITCHED.load(Ordering::Relaxed) & (1 << k as u8) == 0;
        as_usual == k.usual()
    }
    /// Bits of the rules.
    const RULES: u64 = {
        let (mut bits, mut i) = (0, 0);
        while i < Knob::ALL.len() {
            bits |= (Knob::ALL[i].2.is_some() as u64) << i;
            i += 1;
        }
        bits
    };

    /// No rule is off.
    pub(crate) fn all_kept() -> bool {
        SWITCHED.load(Ordering::Relaxed) & RULES == 0
    }
    /// Turns it on or off from now on. Returns what it was.
    pub fn set(k: Knob, on: bool) -> bool {
        let bit = 1 << k as u8;
        let before = if on == k.usual() {
            SWITCHED.fetch_and(!bit, Ordering::Relaxed)
        } else {
            SWITCHED.fetch_or(bit, Ordering::Relaxed)
        };
        (before & bit == 0) == k.usual()
    }
}

#[cfg(not(feature = "lab"))]
mod switch {
    use super::Knob;
    /// Whether the rule is kept (always), or the variant chosen (never).
    #[inline(always)]
    pub const fn on(k: Knob) -> bool {
        k.usual()
    }
}

pub use switch::*;
