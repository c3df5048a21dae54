//! The self-tests' bodies. Each runs on either machine and leaves nothing behind: what it took is
//! given back, and the accounting is checked against what it was.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arch::VirtAddr;
use arch::thread::{self, Spawn};
use arch::upcall::FaultError;
use mm::stats::{Use, use_pages};

use crate::selftest::{Failure, Suite};
use crate::space::Space;

#[cfg(feature = "lab")]
mod actor;
mod baddisk;
mod balance;
#[cfg(feature = "lab")]
mod disk;
mod fat;
#[cfg(all(feature = "lab", not(target_os = "none")))]
mod fat32;
#[cfg(all(feature = "lab", not(target_os = "none")))]
mod fat_cuts;
mod fat_damage;
#[cfg(feature = "lab")]
mod fat_failing;
mod fat_model;
#[cfg(not(target_os = "none"))]
mod fat_power;
mod fault;
mod file;
mod fork;
#[cfg(target_os = "none")]
mod machine;
mod mapfile;
mod migrate;
mod mkfs;
mod model;
mod ops_edges;
mod ops_model;
mod reclaim;
mod shmem;
mod stress;
mod thp;
mod threads;
mod tlb;
mod truncate;
mod vma;

/// Every suite, in the order they run: what others build on comes first.
pub(crate) const ALL: &[&Suite] = &[
    #[cfg(target_os = "none")]
    &machine::SUITE,
    &threads::SUITE,
    #[cfg(feature = "lab")]
    &actor::SUITE,
    &vma::SUITE,
    &fault::SUITE,
    &fork::SUITE,
    &tlb::SUITE,
    &reclaim::SUITE,
    &migrate::SUITE,
    &thp::SUITE,
    #[cfg(feature = "lab")]
    &disk::SUITE,
    &file::SUITE,
    &baddisk::SUITE,
    &fat::SUITE,
    &mkfs::SUITE,
    &mapfile::SUITE,
    &balance::SUITE,
    &truncate::SUITE,
    &shmem::SUITE,
    &ops_edges::SUITE,
    &ops_model::SUITE,
    &model::SUITE,
    &stress::SUITE,
];

/// Where tests map; 2 MiB aligned.
const BASE: VirtAddr = VirtAddr(0x4000_0000);
/// Far from there: no table but the root is common to both.
const FAR: VirtAddr = VirtAddr(arch::USER_TOP / 2 + 0x3000);
/// Pages that a PTE table maps.
const TABLE: usize = arch::addr::entries(0);

type Outcome = Result<(), Failure>;

impl From<mm::MmError> for Failure {
    fn from(e: mm::MmError) -> Self {
        Self::Wrong(format!("an operation failed with {e:?}"))
    }
}

impl From<fs::FsError> for Failure {
    fn from(e: fs::FsError) -> Self {
        Self::Wrong(format!("the file system: {e} ({e:?})"))
    }
}

impl From<FaultError> for Failure {
    fn from(e: FaultError) -> Self {
        Self::Wrong(format!("a user access failed with {e:?}"))
    }
}

impl From<crate::stress::team::Stop> for Failure {
    fn from(stop: crate::stress::team::Stop) -> Self {
        match stop {
            crate::stress::team::Stop::Wrong(message) => Self::Wrong(message),
            other => Self::Wrong(format!("ended early: {other:?}")),
        }
    }
}

/// Runs `f` and checks that it gave back every anonymous page and page-table page.
fn without_leak(f: impl FnOnce() -> Outcome) -> Outcome {
    let count = || {
        // Pages on their way to the disk, or in the swap cache for nobody, are no leak.
        mm::reclaim::settle();
        (use_pages(Use::Anon), use_pages(Use::Table))
    };
    let before = count();
    f()?;
    let after = count();
    if before == after {
        return Ok(());
    }
    Err(Failure::new(format!(
        "anonymous pages and page-table pages: {before:?} before, {after:?} after"
    )))
}

/// What a thread of a test does: its number, and where it meets the others.
type Work = dyn Fn(usize, &Meeting) -> Outcome + Send + Sync;

/// Runs `work` in `n` threads at once, on different CPUs where there are so many; the first failure
/// wins, and whoever waits for the failed thread gives up.
fn in_parallel(
    n: usize,
    work: impl Fn(usize, &Meeting) -> Outcome + Send + Sync + 'static,
) -> Outcome {
    let work: Arc<Work> = Arc::new(work);
    let meeting = Arc::new(Meeting::new(n));
    let failure = Arc::new(sync::Mutex::new(sync::Rank::Command, None));
    let mut handles = Vec::new();
    let mut refused = None;
    for i in 0..n {
        let (work, meeting, failure) = (work.clone(), meeting.clone(), failure.clone());
        let shared = meeting.clone();
        let body = Box::new(move || {
            if let Err(e) = work(i, &meeting) {
                failure.lock().get_or_insert(e);
                meeting.break_up();
            }
        });
        let opts = Spawn {
            name: "test",
            cpu: Some(i % crate::usable_cpus()),
        };
        match thread::spawn(opts, body) {
            Ok(handle) => handles.push(handle),
            Err(e) => {
                refused = Some(Failure::new(format!("no thread for the test: {e:?}")));
                shared.break_up();
            }
        }
    }
    handles.into_iter().for_each(thread::JoinHandle::join);
    let first = failure.lock().take();
    refused.or(first).map_or(Ok(()), Err)
}

/// A place where `n` threads meet, again and again. Waiting yields the CPU.
struct Meeting {
    n: usize,
    arrived: AtomicUsize,
    broken: AtomicBool,
}

impl Meeting {
    fn new(n: usize) -> Self {
        Self {
            n,
            arrived: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Nobody needs to wait any more: a thread has failed.
    fn break_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// A thread has failed, and comes to no meeting any more.
    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Returns when all `n` threads have called it for the `round`th time (from 0).
    fn wait(&self, round: usize) -> Outcome {
        // AcqRel and Acquire: what a thread did before the meeting is seen by all after it.
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < (round + 1) * self.n {
            if self.is_broken() {
                return Err(Failure::new("another thread of the test failed"));
            }
            thread::yield_now();
        }
        Ok(())
    }
}

/// How many threads a test uses that wants several: two at least, four at most.
fn several() -> usize {
    crate::usable_cpus().clamp(2, 4)
}

/// An address space with `pages` fresh pages at [`BASE`].
fn mapped(pages: usize) -> Result<Space, Failure> {
    let space = Space::new()?;
    space.map(BASE, pages, crate::space::Prot::RW)?;
    Ok(space)
}
