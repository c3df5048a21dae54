//! The pocket, and what goes back with it from run to run.
//!
//! Takes the locks of what it resets, one at a time: nobody runs. [`open`] and dropping the pocket
//! may sleep, [`Pocket::rewind`] does not. Without a leak rewinding allocates nothing and looks at
//! no frame that is free.

use super::scan;
use crate::arena::{Arena, Held, Slot};
use crate::buddy::{HUGE_ORDER, pocket};
use crate::error::MmError;
use crate::file;
use crate::frame::frame;
use crate::mm::{self, by_id};
use crate::pagecache::{self, opened, tree};
use crate::pt::tlb;
use crate::reclaim;
use crate::scarce;
use crate::stats::Use;
use crate::swap::{area, cache, io, readahead};
use crate::vma::{self, anon};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arch::Pfn;
use core::fmt::{Display, Write};
use core::marker::PhantomData;
use sync::MAX_CPUS;

/// Frames, objects and slots for actors, the same ones in every run. One at a time.
pub struct Pocket {
    base: Pfn,
    frames: usize,
    mms: Held,
    vmas: Held,
    anons: Held,
    chains: Held,
    files: Held,
    opened: Held,
    nodes: Held,
    /// The bad slots of the area that was in use at `open`.
    bad: Option<Vec<u32>>,
    /// The thread that opened it is served from it.
    _thread: PhantomData<*const ()>,
}

/// Opens the pocket with a block of `frames` frames, a power of two from 8 to 1024, of which
/// `blocks` blocks (less than a half) are kept together for huge pages. Until it is
/// dropped, page tables, anonymous and file pages of actors and of the calling thread come from
/// there; when they are used up, actors reclaim what is theirs and kill each other, and for the
/// calling thread there is no memory. The same goes for 64 each of address spaces, areas,
/// anon_vmas, chains, files, open files and nodes of the page cache, for whoever makes one. Kernel
/// memory comes from where it always does.
///
/// The swap area that is in use, if any, belongs to the explorer until then: a small one, since
/// rewinding looks at every slot. The calling thread must not migrate, nor actors: LRU lists and
/// slots go by CPU.
///
/// # Errors
/// Invalid: no such number. Exists: slots are in use. NoMemory: no such block, no objects.
///
/// # Panics
/// If a pocket is open.
pub fn open(frames: usize, blocks: u32) -> Result<Pocket, MmError> {
    let apart = (blocks as usize) << HUGE_ORDER;
    if !frames.is_power_of_two() || !(8..=pocket::MAX).contains(&frames) || apart * 2 > frames {
        return Err(MmError::Invalid);
    }
    reclaim::settle();
    let bad = area::device().map(|_| area::bad_slots().ok_or(MmError::Exists));
    let bad = bad.transpose()?;
    let mms = Holding::new(mm::pool())?;
    let vmas = Holding::new(vma::pool())?;
    let anons = Holding::new(anon::pools().0)?;
    let chains = Holding::new(anon::pools().1)?;
    let files = Holding::new(pagecache::pool())?;
    let opened = Holding::new(opened::pool())?;
    let nodes = Holding::new(tree::nodes())?;
    let base = pocket::open(frames.trailing_zeros() as u8, blocks)?;
    let pocket = Pocket {
        base,
        frames,
        mms: mms.keep(),
        vmas: vmas.keep(),
        anons: anons.keep(),
        chains: chains.keep(),
        files: files.keep(),
        opened: opened.keep(),
        nodes: nodes.keep(),
        bad,
        _thread: PhantomData,
    };
    pocket.rewind_swap();
    reclaim::forget();
    Ok(pocket)
}

/// A pool held, until somebody keeps it so.
struct Holding<T: Slot>(&'static Arena<T>, Option<Held>);

impl<T: Slot> Holding<T> {
    fn new(pool: &'static Arena<T>) -> Result<Self, MmError> {
        Ok(Self(pool, Some(pool.hold()?)))
    }
    fn keep(mut self) -> Held {
        self.1.take().expect("held since `new`")
    }
}

impl<T: Slot> Drop for Holding<T> {
    fn drop(&mut self) {
        if let Some(held) = &self.1 {
            self.0.let_go(held);
        }
    }
}

/// Makes the running CPU leave the root of whichever address space it has loaded. For each actor's
/// CPU before [`Pocket::rewind`] when a run may have left address spaces behind: their roots are
/// about to be free.
pub fn leave_root() {
    let _irq = sync::irq::disable();
    tlb::leave_root();
}

/// What was still in use.
#[derive(Default)]
struct Leaks(String);

impl Leaks {
    #[cold]
    fn add(&mut self, what: impl Display) {
        let sep = if self.0.is_empty() { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{sep}{what}");
    }
    fn into_result(self) -> Result<(), String> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0)
        }
    }
}

/// Until the next rewind no more than `n` frames of the pocket are free but for those that come
/// back.
pub fn leave_frames(n: usize) {
    pocket::leave(n);
}

/// Until the next rewind, memory is short for actors below `n` free frames of the pocket (as below
/// each of the watermarks). Usually it never is.
pub fn want_frames(n: u32) {
    pocket::want(n);
}

impl Pocket {
    /// The first frame of the block.
    pub fn base(&self) -> Pfn {
        self.base
    }

    /// The frames of the block.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Back to the state at [`open`]. Nobody runs, and every actor's CPU has left its address
    /// space.
    ///
    /// # Errors
    /// What was still in use, in a sentence. Everything is as at [`open`] all the same, except for
    /// locks that somebody holds and records of CPUs that have a lost address space loaded (see
    /// [`leave_root`]).
    pub fn rewind(&self) -> Result<(), String> {
        let mut leaks = Leaks::default();
        file::set_limits(None);
        file::forget_flusher();
        scarce::forget();
        self.rewind_requests(&mut leaks);
        self.find_swap_leaks(&mut leaks);
        self.rewind_objects(&mut leaks);
        rewind_frames(&mut leaks);
        self.rewind_swap();
        leaks.into_result()
    }

    fn rewind_requests(&self, leaks: &mut Leaks) {
        if let Some(what) = scan::requests() {
            leaks.add(what);
            tlb::forget_requests();
        }
        let folios = reclaim::forget();
        if folios != 0 {
            leaks.add(format_args!("{folios} folios wait in the laundry"));
        }
        let requests = io::in_flight() + file::io::in_flight();
        if requests != 0 {
            leaks.add(format_args!("{requests} disk requests are under way"));
            io::give_up();
            file::io::give_up();
        }
    }

    fn find_swap_leaks(&self, leaks: &mut Leaks) {
        let (used, cached) = (area::used(), cache::len());
        if used == 0 && cached == 0 {
            return;
        }
        leaks.add(format_args!("{used} swap slots"));
        let mut from = 0;
        while let Some(slot) = area::next_in_use(from) {
            from = slot + 1;
            let count = area::references(slot);
            leaks.add(format_args!("slot {slot:#x} with {count} entries"));
            if let Some(pfn) = cache::peek(slot) {
                leaks.add(format_args!("its folio {pfn:?} is in the swap cache"));
            }
        }
        cache::forget_all();
    }

    fn rewind_objects(&self, leaks: &mut Leaks) {
        for cpu in 0..MAX_CPUS {
            let loaded = tlb::cpu_state(cpu).loaded;
            if let Some(id) = loaded.filter(|id| self.mms.has(*id)) {
                leaks.add(format_args!("CPU {cpu} has mm {id} loaded"));
            }
        }
        one_pool("chain", anon::pools().1, &self.chains, leaks, |_| true);
        one_pool("anon_vma", anon::pools().0, &self.anons, leaks, |id| {
            anon::abandon(id)
        });
        one_pool("vma", vma::pool(), &self.vmas, leaks, |_| true);
        one_pool("open file", opened::pool(), &self.opened, leaks, |_| true);
        one_pool("file", pagecache::pool(), &self.files, leaks, |id| {
            pagecache::file(id).abandon()
        });
        one_pool("node", tree::nodes(), &self.nodes, leaks, |_| true);
        one_pool("mm", mm::pool(), &self.mms, leaks, |id| by_id(id).abandon());
    }

    /// No slot is in use, and nothing was read ahead.
    fn rewind_swap(&self) {
        if let Some(bad) = &self.bad {
            area::reset(bad);
            cache::forget_evicted();
        }
        readahead::forget();
    }
}

/// `abandon` makes a lost object a free one; false where somebody still holds its lock.
fn one_pool<T: Slot>(
    name: &str,
    pool: &Arena<T>,
    held: &Held,
    leaks: &mut Leaks,
    abandon: impl Fn(u32) -> bool,
) {
    let mut lost: Vec<u32> = Vec::new();
    if pool.rewind(held, |id| lost.push(id)) {
        return;
    }
    if lost.is_empty() {
        leaks.add(format_args!("the list of free {name}s is damaged"));
    }
    for id in lost {
        leaks.add(format_args!("{name} {id}"));
        if !abandon(id) {
            leaks.add("its lock is held");
        }
    }
}

/// Every frame is free.
fn rewind_frames(leaks: &mut Leaks) {
    pocket::for_each_used(|pfn| {
        leaks.add(describe(pfn));
        pocket::seize(pfn);
    });
    pocket::share_out();
}

fn describe(pfn: Pfn) -> String {
    let f = frame(pfn);
    let (_, name) = Use::ALL[f.usage() as usize];
    format!(
        "{pfn:?} ({name}, refcount {}, mapcount {})",
        f.refcount(),
        f.mapcount()
    )
}

impl Drop for Pocket {
    fn drop(&mut self) {
        // What is lost was named by the rewind before.
        let _ = self.rewind();
        mm::pool().let_go(&self.mms);
        vma::pool().let_go(&self.vmas);
        anon::pools().0.let_go(&self.anons);
        anon::pools().1.let_go(&self.chains);
        pagecache::pool().let_go(&self.files);
        opened::pool().let_go(&self.opened);
        tree::nodes().let_go(&self.nodes);
        pocket::close();
    }
}
