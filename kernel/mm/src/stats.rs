//! Event counters and page-use counters, under Linux's names where Linux has them.
//!
//! Takes no lock and never sleeps. Events are per-CPU sums; page-use counters are exact (every page
//! is in exactly one use, so their sum is the total: `check` compares them with a scan of the
//! memmap).

use core::sync::atomic::{AtomicI64, Ordering};
use sync::Counter;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// What is counted; `vmstat` prints them in this order.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Event { $($(#[$doc])* $name),* }
        impl Event {
            /// Every event with its name.
            pub const ALL: &'static [(Event, &'static str)] = &[$((Event::$name, $text)),*];
        }
        static EVENTS: [Counter; Event::ALL.len()] = [const { Counter::new() }; Event::ALL.len()];
    };
}

events! {
    /// Faults taken.
    PgFault = "pgfault",
    /// Faults that needed I/O.
    PgMajFault = "pgmajfault",
    /// Frames allocated.
    PgAlloc = "pgalloc",
    /// Frames freed.
    PgFree = "pgfree",
    /// First-touch faults that mapped a fresh frame.
    AnonFault = "quire_anon_fault",
    /// Read faults served by the shared zero page.
    ZeroFault = "quire_zero_fault",
    /// Faults that looked for a page of a file.
    FileFault = "quire_file_fault",
    /// Pages of files mapped because a fault was near them.
    FileAround = "quire_file_around",
    /// Write faults that made a page of a file dirty.
    FileMkwrite = "quire_file_mkwrite",
    /// Write faults that copied.
    CowCopy = "quire_cow_copy",
    /// Write faults that took the page over without a copy.
    CowReuse = "quire_cow_reuse",
    /// Faults that found the work done by another CPU.
    SpuriousFault = "quire_spurious_fault",
    /// Stack areas grown.
    StackGrow = "quire_stack_grow",
    /// Pages read from swap.
    PswpIn = "pswpin",
    /// Pages written to swap.
    PswpOut = "pswpout",
    /// Swap-in faults served by the swap cache.
    SwapCacheHit = "quire_swap_cache_hit",
    /// Pages read ahead on swap-in.
    SwapRa = "swap_ra",
    /// Read-ahead pages that were used.
    SwapRaHit = "swap_ra_hit",
    /// Swap writes that failed.
    SwapWriteError = "quire_swap_write_error",
    /// Swap reads that failed.
    SwapReadError = "quire_swap_read_error",
    /// Pages read from files' disk.
    FileRead = "quire_file_read",
    /// Pages written to files' disk.
    FileWritten = "quire_file_written",
    /// File pages whose read failed.
    FileReadError = "quire_file_read_error",
    /// File pages whose write failed.
    FileWriteError = "quire_file_write_error",
    /// File pages read before they were asked for.
    FileRa = "quire_file_ra",
    /// Entries of files taken out through which the page was written.
    ZapWritten = "quire_zap_written",
    /// Entries of files that writeback took the write right from.
    FileCleaned = "quire_file_cleaned",
    /// Times a writer had to wait for the flusher.
    FileThrottled = "quire_file_throttled",
    /// Requests sent to disks.
    Bio = "quire_bio",
    /// Folios moved to the active list.
    PgActivate = "pgactivate",
    /// Folios moved to the inactive list.
    PgDeactivate = "pgdeactivate",
    /// Evicted anonymous pages that came back while their eviction was remembered.
    RefaultAnon = "workingset_refault_anon",
    /// The same of file pages.
    RefaultFile = "workingset_refault_file",
    /// Of these, the ones that came back so soon that they began on the active list.
    RefaultActivateAnon = "workingset_activate_anon",
    /// The same of file pages.
    RefaultActivateFile = "workingset_activate_file",
    /// Of these, the ones that had been active before their eviction.
    RefaultRestoreAnon = "workingset_restore_anon",
    /// The same of file pages.
    RefaultRestoreFile = "workingset_restore_file",
    /// Folios looked at by kswapd.
    PgScanKswapd = "pgscan_kswapd",
    /// Folios looked at by direct reclaim.
    PgScanDirect = "pgscan_direct",
    /// Folios freed by kswapd.
    PgStealKswapd = "pgsteal_kswapd",
    /// Folios freed by direct reclaim.
    PgStealDirect = "pgsteal_direct",
    /// Folios that reclaim itself sent to be written.
    VmscanWrite = "nr_vmscan_write",
    /// Folios moved to another frame.
    PgMigrateSuccess = "pgmigrate_success",
    /// Folios that were to move and stayed.
    PgMigrateFail = "pgmigrate_fail",
    /// First touches that mapped a huge page.
    ThpFaultAlloc = "thp_fault_alloc",
    /// First touches that found no block for one.
    ThpFaultFallback = "thp_fault_fallback",
    /// Huge pages split.
    ThpSplitPage = "thp_split_page",
    /// Times an allocation had to reclaim by itself.
    AllocStall = "allocstall",
    /// Address spaces killed for want of memory.
    OomKill = "oom_kill",
    /// Shootdowns that sent an IPI.
    TlbRemoteFlush = "nr_tlb_remote_flush",
    /// TLB IPIs received.
    TlbRemoteFlushReceived = "nr_tlb_remote_flush_received",
    /// TLB IPIs sent.
    TlbIpi = "quire_tlb_ipi",
    /// Full flushes of the local TLB.
    TlbFlushAll = "nr_tlb_local_flush_all",
    /// Single entries flushed from the local TLB.
    TlbFlushOne = "nr_tlb_local_flush_one",
    /// Flush requests (a gather batch, an mprotect, …).
    TlbFlush = "quire_tlb_flush",
    /// Entries taken out or weakened that flush requests were made for.
    TlbFlushPages = "quire_tlb_flush_pages",
    /// Remote CPUs spared because they were lazy.
    TlbLazySkip = "quire_tlb_lazy_skip",
    /// Flushes not needed because the CPU had already seen a later generation.
    TlbGenSkip = "quire_tlb_gen_skip",
    /// Flushes not needed because of the kind of change (none to present, upgrade).
    TlbAvoided = "quire_tlb_avoided",
    /// Page-table pages allocated.
    TableAlloc = "quire_table_alloc",
    /// Page-table pages freed.
    TableFree = "quire_table_free",
}

/// Counts one event.
#[inline]
pub fn count(e: Event) {
    EVENTS[e as usize].inc();
}

/// Counts `n` events.
#[inline]
pub fn count_n(e: Event, n: u64) {
    EVENTS[e as usize].add(n);
}

/// The total since boot.
pub fn total(e: Event) -> u64 {
    EVENTS[e as usize].sum()
}

/// What a frame is used for. Kept in the frame's flags; the sum over all uses is the total.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Use {
    /// Not ours: firmware, holes, device memory.
    Reserved = 0,
    /// The kernel's image, boot data and stacks that the machine took before us.
    Kernel = 1,
    /// The memmap itself.
    Memmap = 2,
    /// Free in the buddy allocator.
    Free = 3,
    /// Free in a per-CPU list.
    Pcp = 4,
    /// Anonymous memory, mapped or in the swap cache.
    Anon = 5,
    /// Page-table pages.
    Table = 6,
    /// The kernel heap and the object caches above it.
    Heap = 7,
    /// Drivers' and other kernel pages.
    Misc = 8,
    /// The page cache of files.
    File = 9,
}

impl Use {
    /// Every use with the name that `meminfo` prints.
    pub const ALL: [(Use, &'static str); 10] = [
        (Use::Reserved, "Reserved"),
        (Use::Kernel, "KernelImage"),
        (Use::Memmap, "Memmap"),
        (Use::Free, "MemFreeBuddy"),
        (Use::Pcp, "MemFreePcp"),
        (Use::Anon, "AnonPages"),
        (Use::Table, "PageTables"),
        (Use::Heap, "KernelHeap"),
        (Use::Misc, "KernelMisc"),
        (Use::File, "FilePages"),
    ];
    /// The use with this number (see `Frame::usage`).
    pub fn from_bits(bits: u32) -> Self {
        Self::ALL[bits as usize % Self::ALL.len()].0
    }
}

/// Per-use page counts. Updated where a frame changes its use; per CPU, so that a fault shares no
/// line.
static USES: [Counter; Use::ALL.len()] = [const { Counter::new() }; Use::ALL.len()];

/// `n` frames go from one use to another.
#[inline]
pub(crate) fn move_use(from: Use, to: Use, n: u64) {
    USES[from as usize].add(n.wrapping_neg());
    USES[to as usize].add(n);
}

/// `n` frames are found at boot in this use.
pub(crate) fn found_use(to: Use, n: u64) {
    USES[to as usize].add(n);
}

/// Frames in this use now (exact when nothing runs).
pub fn use_pages(u: Use) -> u64 {
    USES[u as usize].sum()
}

/// A plain gauge that may go up and down (resident pages of an address space).
#[derive(Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }
    /// Adds `n` (negative to subtract).
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// The value, never below zero.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed).max(0) as u64
    }
    /// The value as counted.
    pub fn raw(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
    /// Back to zero, for an object that starts a new life.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
