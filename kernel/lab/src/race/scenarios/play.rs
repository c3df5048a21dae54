//! A scenario as a table: who it is about, and a function for each of its parts.

use alloc::string::String;

use arch::upcall::{Access, FaultError};
use arch::{PAGE_SIZE, Pfn, VirtAddr};
use mm::knobs::Knob;
use mm::{Advice, MapFlags, MmError, MmRef, Prot, RemapFlags};
use sync::point::PointKind;

use crate::race::model::Fresh;
use crate::race::scenario::{Disks, Kinds, Scenario};
use crate::race::stage::Stage;

/// Where the scenarios' pages lie.
pub(super) const HOME: VirtAddr = VirtAddr(0x4000_0000);

/// The first byte of page `i` there.
pub(super) const fn page(i: u64) -> VirtAddr {
    VirtAddr(HOME.0 + i * PAGE_SIZE)
}

/// Where actors of longer scenarios stop: not at looks at tables that stay, and not between the
/// parts of a flush.
pub(super) const FEW_STOPS: Kinds = Kinds::USUAL
    .without(PointKind::CellRead)
    .without(PointKind::Space)
    .without(PointKind::IpiSend);

/// Where those stop that touch very many things: not where references are counted, either.
pub(super) const FEWER_STOPS: Kinds = FEW_STOPS.without(PointKind::Count);

/// As [`FEWER_STOPS`], nor at changes of cells: for what locks and waits decide.
pub(super) const LOCK_STOPS: Kinds = FEWER_STOPS.without(PointKind::CellWrite);

/// Where actors stop that walk through tables which another takes away.
pub(super) const WALK_STOPS: Kinds = Kinds::USUAL
    .without(PointKind::Space)
    .without(PointKind::IpiSend);

/// The fixes of a scenario. In the kernel, those without which nothing panics, which ends the
/// machine, and that are found within moments.
pub(super) const fn unless_kernel(
    fixes: &'static [Knob],
    in_kernel: &'static [Knob],
) -> &'static [Knob] {
    if cfg!(target_os = "none") {
        in_kernel
    } else {
        fixes
    }
}

/// See the module text; the fields are those of [`Scenario`].
pub(super) struct Play {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) fixes: &'static [Knob],
    pub(super) variants: &'static [Knob],
    pub(super) is_small: bool,
    pub(super) watches_rmap: bool,
    pub(super) huge_pages: u32,
    /// For each actor, the place of its address space.
    pub(super) spaces: &'static [Option<usize>],
    pub(super) stops: Kinds,
    pub(super) disks: fn(&'static Stage) -> Disks,
    pub(super) setup: fn(&'static Stage) -> Result<(), MmError>,
    pub(super) enter: fn(&'static Stage, usize),
    pub(super) run: fn(&'static Stage, usize),
    pub(super) leave: fn(&'static Stage, usize),
    pub(super) check: fn(&'static Stage) -> Result<(), String>,
}

impl Play {
    /// Two actors in one address space, which has one page; they do nothing.
    pub(super) const NEW: Self = Self {
        name: "",
        about: "",
        fixes: &[],
        variants: &[],
        is_small: false,
        watches_rmap: false,
        huge_pages: 0,
        spaces: &[Some(0), Some(0)],
        stops: Kinds::USUAL,
        disks: |_| Disks::TAME,
        setup: |stage| one_space(stage, 1),
        enter: |_, _| (),
        run: |_, _| (),
        leave: |_, _| (),
        check: |_| Ok(()),
    };
}

impl Scenario for Play {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn fixes(&self) -> &'static [Knob] {
        self.fixes
    }
    fn variants(&self) -> &'static [Knob] {
        self.variants
    }
    fn is_small(&self) -> bool {
        self.is_small
    }
    fn watches_rmap(&self) -> bool {
        self.watches_rmap
    }
    fn huge_pages(&self) -> u32 {
        self.huge_pages
    }
    fn actors(&self) -> usize {
        self.spaces.len()
    }
    fn stops(&self) -> Kinds {
        self.stops
    }
    fn disks(&self, stage: &'static Stage) -> Disks {
        (self.disks)(stage)
    }
    fn setup(&self, stage: &'static Stage) -> Result<(), MmError> {
        (self.setup)(stage)
    }
    fn space_of(&self, me: usize) -> Option<usize> {
        self.spaces[me]
    }
    fn enter(&self, stage: &'static Stage, me: usize) {
        (self.enter)(stage, me);
    }
    fn run(&self, stage: &'static Stage, me: usize) {
        (self.run)(stage, me);
    }
    fn leave(&self, stage: &'static Stage, me: usize) {
        (self.leave)(stage, me);
    }
    fn check(&self, stage: &'static Stage) -> Result<(), String> {
        (self.check)(stage)
    }
}

/// An address space at place 0 with `pages` pages of memory that may be read and written.
pub(super) fn one_space(stage: &Stage, pages: u64) -> Result<(), MmError> {
    let space = MmRef::new()?;
    map(&space, pages)?;
    stage.put(0, space);
    Ok(())
}

/// One page at [`HOME`] in the space at place 0 that holds 1.
pub(super) fn one_filled_page(stage: &Stage) -> Result<(), MmError> {
    one_space(stage, 1)?;
    stage.fill(0, HOME, 1)
}

/// As [`one_filled_page`], shared by a parent (place 0) and its child (place 1).
pub(super) fn shared_page(stage: &Stage) -> Result<(), MmError> {
    one_filled_page(stage)?;
    family(stage, 0, 1)
}

/// A second word of the first page: a scenario stores to it once.
pub(super) const BESIDE: VirtAddr = VirtAddr(HOME.0 + 8);

/// For `enter`: B has the first page in its TLB, written.
pub(super) fn b_wrote(stage: &'static Stage, me: usize) {
    if me == 1 {
        must(stage, "store", stage.store(HOME, 1));
        must(stage, "store", stage.store(BESIDE, 7));
    }
}

/// A write to the first page through a reference from the lockless walk, if there is one to be had.
pub(super) fn write_through(stage: &Stage) {
    let irq = sync::irq::disable();
    if let Some(held) = mm::adopt::follow_fast_to_write(&irq, HOME) {
        stage.store_through(0, &held, HOME, 2);
    }
}

/// Maps `pages` fresh pages at [`HOME`], over what was there.
pub(super) fn map(space: &MmRef, pages: u64) -> Result<(), MmError> {
    space
        .mmap(Some(HOME), pages * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
        .map(drop)
}

/// For `enter`: memory is short, so that kswapd has something to do, and faults find enough.
pub(super) fn short_of_frames(_: &'static Stage, me: usize) {
    if me == 1 {
        mm::explore::leave_frames(4);
        mm::explore::want_frames(6);
    }
}

/// The space at place `i` gives the content of `pages` pages at `va` up.
pub(super) fn dont_need(stage: &Stage, i: usize, va: VirtAddr, pages: u64) {
    let (space, len) = (stage.space(i), pages * PAGE_SIZE);
    let op = || space.madvise(va, len, Advice::DontNeed);
    must(stage, "madvise", stage.giving_up(&space, va, pages, op));
}

/// The space at place `i` allows the content of the page at `va` to be dropped.
pub(super) fn free(stage: &Stage, i: usize, va: VirtAddr) {
    let space = stage.space(i);
    let op = || space.madvise(va, PAGE_SIZE, Advice::Free);
    must(stage, "free", stage.freeing(&space, va, 1, op));
}

/// The space at place `i` unmaps the page at `va`.
pub(super) fn unmap(stage: &Stage, i: usize, va: VirtAddr) {
    let space = stage.space(i);
    let op = || space.munmap(va, PAGE_SIZE);
    must(
        stage,
        "munmap",
        stage.remapping(&space, va, 1, Fresh::Nothing, op),
    );
}

/// The space at place `i` moves `pages` pages from `va` to `to`.
pub(super) fn move_to(stage: &Stage, i: usize, va: VirtAddr, pages: u64, to: VirtAddr) {
    let (space, len) = (stage.space(i), pages * PAGE_SIZE);
    let op = || space.mremap(va, len, len, RemapFlags::FIXED, Some(to));
    must(
        stage,
        "mremap",
        stage.moving(&space, (va, pages), (to, pages), op),
    );
}

/// A copy of the space at place 0 comes to place 1.
pub(super) fn fork(stage: &Stage) {
    match stage.forking(&stage.space(0)) {
        Some(child) => stage.put(1, child),
        None => stage.violated("refused", "fork".into()),
    }
}

/// Before a run: the child at place `child` is a copy of the space at place `parent`.
pub(super) fn family(stage: &Stage, parent: usize, child: usize) -> Result<(), MmError> {
    stage.put(child, stage.space(parent).fork()?);
    stage.forked(parent, child);
    Ok(())
}

/// The frame of the page at `va` in the space at place 0 is what [`remembered`] says: in the
/// scenario's own word 0.
pub(super) fn remember_frame(stage: &Stage, va: VirtAddr) {
    let pfn = stage.frame_of(0, va);
    stage.set(0, pfn.map_or(0, |p| u64::from(p.0)));
}

/// The frame of [`remember_frame`].
pub(super) fn remembered(stage: &Stage) -> Pfn {
    Pfn(stage.get(0) as u32)
}

/// Reclaim comes to the frame by itself, without a lock of a space.
pub(super) fn reclaim_remembered(stage: &Stage) {
    mm::reclaim::one(remembered(stage));
}

/// One filled page at [`HOME`] in the space at place 0, on the disk and nowhere else.
pub(super) fn page_on_disk(stage: &Stage) -> Result<(), MmError> {
    one_space(stage, 1)?;
    stage.fill(0, HOME, 1)?;
    stage.space(0).madvise(HOME, PAGE_SIZE, Advice::PageOut)
}

/// As [`page_on_disk`], brought back for a load: the page is in memory as well, and clean.
pub(super) fn page_in_both(stage: &Stage) -> Result<(), MmError> {
    page_on_disk(stage)?;
    let faulted = stage.space(0).fault(HOME, Access::Read);
    faulted.map_err(|_| MmError::NotMapped)
}

/// One page at [`HOME`] in the space at place 0 that was filled, and given up to whoever reclaims
/// it first.
pub(super) fn lazy_page(stage: &Stage) -> Result<(), MmError> {
    one_space(stage, 1)?;
    stage.fill(0, HOME, 1)?;
    free(stage, 0, HOME);
    Ok(())
}

/// The file at place 0, of `pages` pages that hold 1 on the disk, mapped shared at [`HOME`] in the
/// space at place 0.
pub(super) fn mapped_file(stage: &Stage, pages: u32) -> Result<(), MmError> {
    stage.open_file(0, pages)?;
    for i in 0..u64::from(pages) {
        stage.on_disk(0, i * PAGE_SIZE, 1);
    }
    let space = MmRef::new()?;
    stage.map_file(&space, HOME, u64::from(pages), 0, 0, MapFlags::SHARED)?;
    stage.put(0, space);
    Ok(())
}

/// The file at place 0 is made durable, twice.
pub(super) fn sync_twice(stage: &Stage) {
    for _ in 0..2 {
        must(stage, "sync", stage.sync_file(0));
    }
}

/// What an access of an actor came to does not matter: the page may be gone.
pub(super) fn whatever<T, E>(_: Result<T, E>) {}

/// An operation of an actor that must succeed.
pub(super) fn must<T>(stage: &Stage, what: &str, done: Result<T, impl core::fmt::Debug>) {
    if let Err(e) = done {
        stage.violated("refused", alloc::format!("{what}: {e:?}"));
    }
}

/// Errors of which some are a disk's.
pub(super) trait Failing: core::fmt::Debug {
    /// It is one.
    fn is_disks(&self) -> bool;
}

impl Failing for MmError {
    fn is_disks(&self) -> bool {
        *self == Self::Io
    }
}

impl Failing for FaultError {
    fn is_disks(&self) -> bool {
        *self == Self::Bus
    }
}

/// An operation of an actor that must succeed unless the disk has failed a request; whether it did.
pub(super) fn must_or_io<T>(stage: &Stage, what: &str, done: Result<T, impl Failing>) -> bool {
    match done {
        Ok(_) => true,
        Err(e) if e.is_disks() && stage.failed_requests() > 0 => false,
        Err(e) => {
            stage.violated("refused", alloc::format!("{what}: {e:?}"));
            false
        }
    }
}

/// What an access came to, in words.
pub(super) fn told<T: core::fmt::Debug>(what: &str, done: Result<T, FaultError>) -> String {
    match done {
        Ok(value) => alloc::format!("{what} went through: {value:?}"),
        Err(e) => alloc::format!("{what} failed: {e:?}"),
    }
}
