//! The lock table: every lock has a rank, and a thread takes locks in ascending rank only.
//! The checker, the `locks` command and the document come from this one table.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! ranks {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A lock's place in the order, outermost first.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[repr(u8)]
        pub enum Rank { $($(#[doc = $doc])+ $name,)+ }

        impl Rank {
            /// Every rank, outermost first.
            pub const ALL: [Rank; [$(Rank::$name),+].len()] = [$(Rank::$name),+];

            /// Its name in the table.
            pub const fn name(self) -> &'static str {
                match self { $(Rank::$name => stringify!($name),)+ }
            }
            /// What it protects, one line.
            pub const fn describe(self) -> &'static str {
                match self { $(Rank::$name => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }
    };
}

ranks! {
    /// One console command at a time.
    Command,
    /// Serialises swapon and swapoff.
    SwapOn,
    /// A mounted volume: its directories, and which clusters are whose.
    Volume,
    /// One pass of the flusher, or one counting of all files, at a time.
    FilePass,
    /// Which files there are, and their users.
    Files,
    /// The size of one file, and which of its pages there are to be.
    FileSize,
    /// An address space's VMA tree (read: faults; write: mmap, munmap, mprotect).
    MmapLock,
    /// One thread at a time grows the kernel heap (may reclaim).
    HeapGrow,
    /// A folio's content and its place in a cache; bit lock in the folio.
    FolioLock,
    /// The areas that map one file: the reverse map of its folios.
    IMmap,
    /// The reverse map of one family of anonymous folios.
    AnonVma,
    /// The page tables above the PMD level (the address space's page_table_lock).
    PgtUpper,
    /// A PMD table's entries.
    Pmd,
    /// A PTE table's entries.
    Ptl,
    /// The cache of folios by swap slot.
    SwapCache,
    /// The use counts of swap slots.
    SwapMap,
    /// An arena of fixed-size objects.
    Arena,
    /// The kernel heap.
    Heap,
    /// The LRU lists.
    LruLock,
    /// One CPU's lists of free frames.
    PcpLock,
    /// The buddy allocator's free lists.
    ZoneLock,
    /// One opening of a file: what it was told of errors, where it reads.
    OpenFile,
    /// Where one file lies on the disk.
    FileLayout,
    /// One printed line; not taken by interrupt handlers, so outside of every lock that they take.
    Console,
    /// The page cache of one file; taken by interrupt handlers.
    FileTree,
    /// A CPU's run queue.
    RunQueue,
    /// A wait queue or the queue of a sleeping lock; taken by interrupt handlers.
    WaitQueue,
    /// A disk's request queue; taken by interrupt handlers.
    DiskQueue,
    /// The serial port; taken last, by anyone.
    Serial,
}

/// How often locks of one rank were not free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Contention {
    /// Acquisitions that had to wait.
    pub contended: u64,
    /// Acquisitions of sleeping locks that went to sleep.
    pub slept: u64,
}

struct Cells {
    contended: AtomicU64,
    slept: AtomicU64,
}

static CONTENTION: [Cells; Rank::ALL.len()] = [const {
    Cells {
        contended: AtomicU64::new(0),
        slept: AtomicU64::new(0),
    }
}; Rank::ALL.len()];

impl Rank {
    /// The rank with this number, as stored in a byte.
    #[cfg(any(debug_assertions, test))]
    pub(crate) const fn from_index(i: u8) -> Self {
        Self::ALL[i as usize]
    }

    /// Waiting for locks of this rank since boot.
    pub fn contention(self) -> Contention {
        let c = &CONTENTION[self as usize];
        Contention {
            contended: c.contended.load(Ordering::Relaxed),
            slept: c.slept.load(Ordering::Relaxed),
        }
    }

    /// Counts a contended acquisition (locks outside of this crate, such as bit locks, call it
    /// too).
    #[cold]
    pub fn count_contended(self) {
        CONTENTION[self as usize]
            .contended
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an acquisition that slept.
    #[cold]
    pub fn count_slept(self) {
        CONTENTION[self as usize]
            .slept
            .fetch_add(1, Ordering::Relaxed);
    }

    /// The explorer tries every order in which locks of this rank are taken. The others are leaves,
    /// whose sections it takes as one step.
    pub const fn is_explored(self) -> bool {
        let n = self as u8;
        let inner = Rank::FileSize as u8 <= n && n <= Rank::SwapCache as u8;
        inner && n != Rank::HeapGrow as u8 || n == Rank::SwapOn as u8
    }

    /// A holder of such a lock may wait for another CPU's shootdown acknowledgement. Hence it must
    /// not be waited for with interrupts off: the two would wait for each other.
    pub const fn held_over_shootdown(self) -> bool {
        self as u8 <= Rank::Ptl as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_complete_and_ordered() {
        assert!(Rank::ALL.windows(2).all(|w| w[0] < w[1]));
        for (i, r) in Rank::ALL.into_iter().enumerate() {
            assert_eq!(Rank::from_index(i as u8), r);
            assert!(!r.name().is_empty());
            assert!(r.describe().ends_with('.') && !r.describe().starts_with(' '));
        }
        assert!(Rank::PcpLock < Rank::ZoneLock);
    }

    #[test]
    fn contention_counts() {
        let before = Rank::SwapOn.contention();
        Rank::SwapOn.count_contended();
        Rank::SwapOn.count_slept();
        let after = Rank::SwapOn.contention();
        assert_eq!(after.contended, before.contended + 1);
        assert_eq!(after.slept, before.slept + 1);
    }
}
