//! anon_vma: from an anonymous folio to every area that may map it.
//!
//! A folio points to the anon_vma of the area it was first mapped in. Each anon_vma keeps an
//! interval tree, by page index, of the areas that can hold its folios: its own, and those of
//! forked children, linked through anon_vma_chains (Linux commit 5beb4930, "mm: change anon_vma
//! linking to fix multi-process server scalability issue").
//!
//! Locks: the *root's* reader-writer semaphore (`Rank::AnonVma`) guards the trees, chains and
//! counters of every anon_vma below that root; reverse walks take it shared. Chains are also stable
//! under the owner's `mmap_lock`. Sleeps. Allocation happens in mm operations (mmap, split, fork),
//! never in a fault.
//!
//! An anon_vma lives while a chain or a child refers to it. Its pool is type-stable, so a folio
//! that is no longer mapped may hold a stale id: [`lock_folio`] finds that out under the lock.

mod chain;

use crate::arena::{Arena, Slot};
use crate::error::MmError;
use crate::frame::{Folio, NIL};
use crate::vma::{Vma, vma};
use algo::interval::IntervalTree;
#[cfg(feature = "lab")]
use chain::Chain;
use chain::{CHAINS, ChainNodes, chain_vma};
use core::sync::atomic::{AtomicU32, Ordering};
use sync::point::{self, AccessKind, PointKind, class};
use sync::{Rank, ReadGuard, RwSem, WriteGuard};

/// A family of folios and the areas that may map them.
pub struct AnonVma {
    lock: RwSem<()>,
    root: AtomicU32,
    parent: AtomicU32,
    /// Chains, children, and (in a root) every anon_vma below it.
    refs: AtomicU32,
    /// Direct children.
    children: AtomicU32,
    /// Areas whose own anon_vma this is.
    active: AtomicU32,
    /// Root of the interval tree of chains.
    tree: AtomicU32,
}

impl Default for AnonVma {
    fn default() -> Self {
        Self {
            lock: RwSem::new(Rank::AnonVma, ()),
            root: AtomicU32::new(NIL),
            parent: AtomicU32::new(NIL),
            refs: AtomicU32::new(0),
            children: AtomicU32::new(0),
            active: AtomicU32::new(0),
            tree: AtomicU32::new(NIL),
        }
    }
}

impl AnonVma {
    fn object(&self) -> u32 {
        point::object_at(class::ANON, self)
    }

    /// For the explorer: the running actor looks at, or changes, what may be read without the
    /// family lock.
    #[inline(always)]
    fn touch(&self, access: AccessKind) {
        point::touch(access, || self.object());
    }
}

impl Slot for AnonVma {
    fn link(&self) -> &AtomicU32 {
        &self.tree
    }
}

static ANON: Arena<AnonVma> = Arena::new();

/// Live anon_vmas and chains.
pub fn live() -> (usize, usize) {
    (ANON.live(), CHAINS.live())
}

/// Runs `f` on the interval tree of anon_vma `id`. The caller holds the root's lock.
fn with_tree<R>(id: u32, f: impl FnOnce(&mut IntervalTree) -> R) -> R {
    let anon = ANON.get(id);
    let mut tree = IntervalTree::from_id(anon.tree.load(Ordering::Relaxed));
    let r = f(&mut tree);
    anon.tree.store(tree.id(), Ordering::Relaxed);
    r
}

/// The root of the family of a live anon_vma.
#[inline]
pub(crate) fn root_of(id: u32) -> u32 {
    let anon = ANON.get(id);
    anon.touch(AccessKind::Read);
    anon.root.load(Ordering::Relaxed)
}

/// Locks the family of anon_vma `id` for a change.
pub(crate) fn write(id: u32) -> WriteGuard<'static, ()> {
    ANON.get(root_of(id)).lock.write()
}

/// The family lock of a mapped folio's anon_vma, held shared: the areas cannot come or go.
pub struct AnonGuard {
    id: u32,
    _lock: ReadGuard<'static, ()>,
}

impl AnonGuard {
    /// Calls `f` with each area that may map page `index`, until it returns false.
    pub(crate) fn for_each_vma(&self, index: u32, f: impl FnMut(&'static Vma) -> bool) {
        for_each_area(self.id, index, f);
    }
}

/// See [`AnonGuard::for_each_vma`]. The family's lock is held, or nobody runs.
fn for_each_area(id: u32, index: u32, mut f: impl FnMut(&'static Vma) -> bool) {
    let anon = ANON.get(id);
    debug_assert!(
        anon.root.load(Ordering::Relaxed) != NIL,
        "the tree of an anon_vma that is free"
    );
    let tree = IntervalTree::from_id(anon.tree.load(Ordering::Relaxed));
    for chain in tree.overlapping(&ChainNodes, index, index) {
        if !f(chain_vma(chain)) {
            return;
        }
    }
}

/// The family lock of the anon_vma of a locked anonymous folio, or `None` when the folio is not
/// mapped (its anon_vma may be gone then). May sleep.
///
/// The folio lock keeps `mapping` as it is. A mapped folio's anon_vma is live, so seeing it mapped
/// *after* the lock is held proves that the locked root is the right one.
pub(crate) fn lock_folio(folio: Folio) -> Option<AnonGuard> {
    loop {
        let id = folio.mapping().checked_sub(1)?;
        if folio.mapcount() == 0 {
            return None;
        }
        let root = root_of(id);
        if root == NIL {
            return None;
        }
        let lock = ANON.get(root).lock.read();
        if folio.mapcount() == 0 {
            return None;
        }
        if root_of(id) == root {
            return Some(AnonGuard { id, _lock: lock });
        }
    }
}

/// As [`lock_folio`], of a locked folio that migration entries may name: its mapcount says nothing.
/// `None` when its anon_vma is gone. (What the id names by now may be another family, which has no
/// such entry.)
pub(crate) fn lock_moving(folio: Folio) -> Option<AnonGuard> {
    loop {
        let id = folio.mapping().checked_sub(1)?;
        let root = root_of(id);
        if root == NIL {
            return None;
        }
        let lock = ANON.get(root).lock.read();
        if root_of(id) == root {
            return Some(AnonGuard { id, _lock: lock });
        }
    }
}

/// The family lock of anon_vma `id`, shared, whatever it is by now. `None` where it is gone, just
/// changing, or the lock is held exclusively. Never sleeps.
pub(crate) fn try_lock(id: u32) -> Option<AnonGuard> {
    let root = root_of(id);
    if root == NIL {
        return None;
    }
    let lock = ANON.get(root).lock.try_read()?;
    if root_of(id) != root {
        return None;
    }
    // From here on the lock keeps it, although nothing refers to it for us.
    point::at(PointKind::Count, AccessKind::Read, || ANON.get(id).object());
    Some(AnonGuard { id, _lock: lock })
}

/// For the explorer, while nobody runs: calls `f` with each area that a reverse walk from `folio`
/// comes to.
#[cfg(feature = "lab")]
pub(crate) fn peek_folio(folio: Folio, mut f: impl FnMut(&'static Vma)) {
    let id = folio.mapping().checked_sub(1);
    if let Some(id) = id.filter(|&id| root_of(id) != NIL) {
        for_each_area(id, folio.index(), |area| {
            f(area);
            true
        });
    }
}

/// For the explorer: the pools of anon_vmas and of chains.
#[cfg(feature = "lab")]
pub(crate) fn pools() -> (&'static Arena<AnonVma>, &'static Arena<Chain>) {
    (&ANON, &CHAINS)
}

/// For the explorer: makes an anon_vma that still had users a free object. False when its lock is
/// held.
#[cfg(feature = "lab")]
pub(crate) fn abandon(id: u32) -> bool {
    ANON.get(id).root.store(NIL, Ordering::Release);
    ANON.get(id).lock.try_write().is_some()
}

/// The family lock is held exclusively, or the family just changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contended;

/// As [`lock_folio`], but gives up where it would have to sleep: `Err` then.
///
/// # Errors
/// [`Contended`] when the lock is held exclusively.
pub(crate) fn try_lock_folio(folio: Folio) -> Result<Option<AnonGuard>, Contended> {
    let Some(id) = folio.mapping().checked_sub(1) else {
        return Ok(None);
    };
    let root = root_of(id);
    if folio.mapcount() == 0 || root == NIL {
        return Ok(None);
    }
    let lock = ANON.get(root).lock.try_read().ok_or(Contended)?;
    if folio.mapcount() == 0 {
        return Ok(None);
    }
    if root_of(id) != root {
        return Err(Contended);
    }
    Ok(Some(AnonGuard { id, _lock: lock }))
}

/// Gives a new area its own anon_vma. The area is not yet visible to anyone.
///
/// # Errors
/// [`MmError::NoMemory`]; nothing is changed then.
pub(crate) fn prepare(vma_id: u32) -> Result<(), MmError> {
    let chain = CHAINS.alloc()?;
    let id = match new_anon(NIL, NIL) {
        Ok(id) => id,
        Err(e) => {
            CHAINS.free(chain);
            return Err(e);
        }
    };
    vma(vma_id).set_anon(id);
    vma(vma_id).set_chain(NIL);
    ANON.get(id).active.store(1, Ordering::Relaxed);
    let _lock = write(id);
    link(chain, vma_id, id);
    Ok(())
}

/// The area is linked to its own anon_vma only: no fork shares its folios upwards.
pub(crate) fn is_singular(vma_id: u32) -> bool {
    let chain = vma(vma_id).chain();
    chain != NIL && CHAINS.get(chain).next.load(Ordering::Relaxed) == NIL
}

/// A new anon_vma below `root` (NIL: it is one itself), a child of `parent`. Without chains.
fn new_anon(root: u32, parent: u32) -> Result<u32, MmError> {
    let id = ANON.alloc()?;
    let anon = ANON.get(id);
    let is_root = root == NIL;
    anon.touch(AccessKind::Write);
    anon.tree.store(NIL, Ordering::Relaxed);
    anon.parent.store(parent, Ordering::Relaxed);
    anon.refs.store(0, Ordering::Relaxed);
    anon.children.store(0, Ordering::Relaxed);
    anon.active.store(0, Ordering::Relaxed);
    anon.root
        .store(if is_root { id } else { root }, Ordering::Relaxed);
    if !is_root {
        let root = ANON.get(root);
        root.touch(AccessKind::Write);
        root.refs.fetch_add(1, Ordering::Relaxed);
    }
    Ok(id)
}

/// Puts `chain` between area and anon_vma. The family lock is held exclusively.
fn link(chain: u32, vma_id: u32, anon: u32) {
    let c = CHAINS.get(chain);
    c.vma.store(vma_id, Ordering::Relaxed);
    c.anon.store(anon, Ordering::Relaxed);
    c.next.store(vma(vma_id).chain(), Ordering::Relaxed);
    vma(vma_id).set_chain(chain);
    let family = ANON.get(anon);
    family.touch(AccessKind::Write);
    family.refs.fetch_add(1, Ordering::Relaxed);
    with_tree(anon, |t| t.insert(&ChainNodes, chain));
}

/// What an anon_vma that nobody refers to any more still refers to.
struct Orphaned {
    id: u32,
    root: u32,
    parent: u32,
}

/// One reference on anon_vma `id` less; `Some` when it was the last. The family lock is held
/// exclusively: whoever has it shared, and has seen `id` to be of the family, walks its tree.
fn put_locked(id: u32) -> Option<Orphaned> {
    let anon = ANON.get(id);
    point::at(PointKind::Count, AccessKind::Write, || anon.object());
    if anon.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
        return None;
    }
    let (root, parent) = (root_of(id), anon.parent.load(Ordering::Relaxed));
    anon.root.store(NIL, Ordering::Release);
    Some(Orphaned { id, root, parent })
}

impl Orphaned {
    /// It goes back to the pool, and its ancestors as far as it was all that kept them. No lock is
    /// held.
    fn free(self) {
        let mut next = Some(self);
        while let Some(Self { id, root, parent }) = next {
            ANON.free(id);
            if root != id {
                // Not the last one: the parent below still has the root, or is it.
                let last = put(root).is_some();
                debug_assert!(!last, "a root without its descendants' references");
            }
            next = if parent == NIL { None } else { put(parent) };
        }
    }
}

/// As [`put_locked`], with no lock held.
fn put(id: u32) -> Option<Orphaned> {
    let _lock = write(id);
    put_locked(id)
}

/// Gives `dst` (same page indexes as `src`, not yet visible) a link to every anon_vma that `src`
/// has. For a split or move, `dst` shares `src`'s own anon_vma; for a fork, see [`fork`].
///
/// # Errors
/// [`MmError::NoMemory`]; `dst` has no links then.
pub(crate) fn clone(dst: u32, src: u32) -> Result<(), MmError> {
    clone_chains(dst, src)?;
    let own = vma(src).anon();
    vma(dst).set_anon(own);
    if own != NIL {
        let own = ANON.get(own);
        own.touch(AccessKind::Write);
        own.active.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn clone_chains(dst: u32, src: u32) -> Result<(), MmError> {
    vma(dst).set_chain(NIL);
    vma(dst).set_anon(NIL);
    let mut cursor = vma(src).chain();
    while cursor != NIL {
        let chain = CHAINS.alloc().inspect_err(|_| unlink(dst))?;
        let anon = CHAINS.get(cursor).anon.load(Ordering::Relaxed);
        let _lock = write(anon);
        link(chain, dst, anon);
        cursor = CHAINS.get(cursor).next.load(Ordering::Relaxed);
    }
    Ok(())
}

/// Links a forked child's area to all anon_vmas of the parent's, and gives it one of its own:
/// either an ancestor's that no area owns any more and that has at most one child, or a new child
/// of the parent's. (The reuse keeps a chain of forks from growing for ever: Linux commit
/// 7a3ef208.)
///
/// # Errors
/// [`MmError::NoMemory`]; `child` has no links then.
pub(crate) fn fork(child: u32, parent: u32) -> Result<(), MmError> {
    let own = vma(parent).anon();
    if own == NIL {
        return Ok(());
    }
    clone_chains(child, parent)?;
    if let Some(id) = take_over(child, own) {
        vma(child).set_anon(id);
        return Ok(());
    }
    let fresh = CHAINS.alloc().map_err(MmError::from).and_then(|chain| {
        new_anon(root_of(own), own)
            .map(|id| (chain, id))
            .inspect_err(|_| CHAINS.free(chain))
    });
    let (chain, id) = match fresh {
        Ok(pair) => pair,
        Err(e) => {
            unlink(child);
            return Err(e);
        }
    };
    let parent_anon = ANON.get(own);
    let _lock = write(own);
    parent_anon.touch(AccessKind::Write);
    parent_anon.refs.fetch_add(1, Ordering::Relaxed);
    parent_anon.children.fetch_add(1, Ordering::Relaxed);
    ANON.get(id).active.store(1, Ordering::Relaxed);
    vma(child).set_anon(id);
    link(chain, child, id);
    Ok(())
}

/// Makes an anon_vma in `vma_id`'s chains its own, if there is one other than `own` that nobody
/// owns and that has fewer than two children.
fn take_over(vma_id: u32, own: u32) -> Option<u32> {
    let mut cursor = vma(vma_id).chain();
    let _lock = write(own);
    while cursor != NIL {
        let id = CHAINS.get(cursor).anon.load(Ordering::Relaxed);
        let anon = ANON.get(id);
        anon.touch(AccessKind::Write);
        if id != own
            && anon.active.load(Ordering::Relaxed) == 0
            && anon.children.load(Ordering::Relaxed) < 2
        {
            anon.active.fetch_add(1, Ordering::Relaxed);
            return Some(id);
        }
        cursor = CHAINS.get(cursor).next.load(Ordering::Relaxed);
    }
    None
}

/// Takes an area out of every anon_vma. Afterwards no reverse walk finds it: its tables may be
/// freed.
pub(crate) fn unlink(vma_id: u32) {
    let area = vma(vma_id);
    let own = area.anon();
    if own != NIL {
        let own = ANON.get(own);
        own.touch(AccessKind::Write);
        own.active.fetch_sub(1, Ordering::Relaxed);
        area.set_anon(NIL);
    }
    let mut cursor = area.chain();
    area.set_chain(NIL);
    while cursor != NIL {
        let c = CHAINS.get(cursor);
        let (anon, next) = (
            c.anon.load(Ordering::Relaxed),
            c.next.load(Ordering::Relaxed),
        );
        let orphaned = {
            let _lock = write(anon);
            with_tree(anon, |t| t.remove(&ChainNodes, cursor));
            let a = ANON.get(anon);
            // The last chain of a child is going: its parent has one child less.
            let parent = a.parent.load(Ordering::Relaxed);
            if a.tree.load(Ordering::Relaxed) == NIL && parent != NIL {
                ANON.get(parent).children.fetch_sub(1, Ordering::Relaxed);
            }
            put_locked(anon)
        };
        CHAINS.free(cursor);
        if let Some(orphaned) = orphaned {
            orphaned.free();
        }
        cursor = next;
    }
}

/// Runs `change`, which alters `start`, `end` or `pgoff` of the given areas of one family, with
/// those areas out of their interval trees, and puts them back: reverse walks see before or after.
pub(crate) fn adjust(areas: &[u32], change: impl FnOnce()) {
    let own = areas.iter().map(|&v| vma(v).anon()).find(|&a| a != NIL);
    let Some(own) = own else {
        change();
        return;
    };
    let _lock = write(own);
    for_each_chain(areas, |anon, chain| {
        with_tree(anon, |t| t.remove(&ChainNodes, chain))
    });
    change();
    for_each_chain(areas, |anon, chain| {
        with_tree(anon, |t| t.insert(&ChainNodes, chain))
    });
}

/// Lets an area end elsewhere. Its first page index stays, so its chains keep their places in the
/// trees.
pub(crate) fn set_end(vma_id: u32, end: u64) {
    let own = vma(vma_id).anon();
    let _lock = (own != NIL).then(|| write(own));
    vma(vma_id).set_end(end);
    for_each_chain(&[vma_id], |anon, chain| {
        with_tree(anon, |t| t.update(&ChainNodes, chain))
    });
}

fn for_each_chain(areas: &[u32], mut f: impl FnMut(u32, u32)) {
    for &id in areas {
        let mut cursor = vma(id).chain();
        while cursor != NIL {
            let c = CHAINS.get(cursor);
            f(c.anon.load(Ordering::Relaxed), cursor);
            cursor = c.next.load(Ordering::Relaxed);
        }
    }
}
