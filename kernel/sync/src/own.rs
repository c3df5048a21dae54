//! Which [`CpuLocal`] is the calling thread's, on the host.
//!
//! A thread that the simulator did not make a CPU gets a block of its own at its first lock: a task
//! number that nobody else has, a CPU number that it may share (per-CPU data is `Sync`, so sharing
//! costs speed only).

use crate::MAX_CPUS;
use crate::cpu::{CpuLocal, local_ptr};
use crate::task::{self, TaskId};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

thread_local! {
    static CURRENT: Cell<*const CpuLocal> = const { Cell::new(ptr::null()) };
    static OWN: CpuLocal = const { CpuLocal::new(0) };
    static LEASE: Lease = Lease(adopt());
}

/// The task number of a thread that is no simulated CPU, given back when the thread ends.
struct Lease(TaskId);

impl Drop for Lease {
    fn drop(&mut self) {
        task::free(self.0);
    }
}

fn adopt() -> TaskId {
    loop {
        if let Some(t) = task::alloc() {
            return t;
        }
        std::thread::yield_now();
    }
}

#[cold]
fn attach() -> *const CpuLocal {
    // A thread past the destruction of its lease (locks taken in other destructors) runs on as task
    // 0.
    let t = LEASE.try_with(|lease| lease.0).unwrap_or(TaskId(0));
    OWN.with(|own| {
        own.cpu_id
            .store((MAX_CPUS - 1 - t.index() % 8) as u32, Relaxed);
        own.task.store(u32::from(t.0), Relaxed);
        let p: *const CpuLocal = own;
        CURRENT.set(p);
        p
    })
}

/// Runs `f` with the calling thread's block.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&CpuLocal) -> R) -> R {
    let mut p = CURRENT.get();
    if p.is_null() {
        p = attach();
    }
    // SAFETY: the pointer is an element of the static table or this thread's own `OWN`, which has
    // no destructor and so lives as long as the thread that runs this.
    f(unsafe { &*p })
}

/// Makes the block of CPU `cpu` the calling thread's.
pub(crate) fn set(cpu: usize) {
    CURRENT.set(local_ptr(cpu));
}
