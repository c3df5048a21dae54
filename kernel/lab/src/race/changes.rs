//! What actors do to address spaces, as far as the stage has to know: what gives pages up, maps
//! something else, moves, copies. Each is told when it begins and when it has returned.
//!
//! Locks: the stage's, for moments. Sleeps where the operation does.

use arch::{PAGE_SHIFT, VirtAddr};
use mm::{MmError, MmRef};
use sync::point::{self, AccessKind};

use super::model::{Ended, Fresh, Model, Pages, Token};
use super::stage::{Stage, space_object};

impl Stage {
    /// There is a stack, which a fault may make grow down to any of `pages` pages at `va`.
    pub fn grows(&self, va: VirtAddr, pages: u64) {
        let first = va.0 >> PAGE_SHIFT;
        self.model().set_grows(first..first + pages);
    }

    /// The pages at `va` of `space` are given up with `op`: they show what they showed, anew.
    /// Others may store there meanwhile; what was there before does not come back afterwards.
    ///
    /// # Errors
    /// What `op` says: of all but [`MmError::NotMapped`] it is believed that nothing was given up.
    pub fn giving_up<R>(
        &self,
        space: &MmRef,
        va: VirtAddr,
        pages: u64,
        op: impl FnOnce() -> Result<R, MmError>,
    ) -> Result<R, MmError> {
        self.remapping(space, va, pages, Fresh::Same, op)
    }

    /// As [`Stage::giving_up`], where something else is there afterwards: `fresh`.
    ///
    /// # Errors
    /// As there.
    pub(super) fn remapping<R>(
        &self,
        space: &MmRef,
        va: VirtAddr,
        pages: u64,
        fresh: Fresh,
        op: impl FnOnce() -> Result<R, MmError>,
    ) -> Result<R, MmError> {
        let pages = pages_at(space, va, pages);
        self.taking_time(space, |m| m.begin_fresh(pages, fresh), op)
    }

    /// The content of the pages at `va` of `space` may be dropped from now on until they are stored
    /// to, says `op`.
    ///
    /// # Errors
    /// As [`Stage::giving_up`].
    pub fn freeing<R>(
        &self,
        space: &MmRef,
        va: VirtAddr,
        pages: u64,
        op: impl FnOnce() -> Result<R, MmError>,
    ) -> Result<R, MmError> {
        let pages = pages_at(space, va, pages);
        self.taking_time(space, |m| m.begin_free(pages), op)
    }

    /// `old` pages at `va` of `space` become `new` pages at `to`, which may be the same place; of
    /// none, which is a second mapping, the old ones stay.
    ///
    /// # Errors
    /// As [`Stage::giving_up`].
    pub fn moving<R>(
        &self,
        space: &MmRef,
        (va, old): (VirtAddr, u64),
        (to, new): (VirtAddr, u64),
        op: impl FnOnce() -> Result<R, MmError>,
    ) -> Result<R, MmError> {
        let (from, to) = (pages_at(space, va, old), pages_at(space, to, new));
        self.taking_time(space, |m| m.begin_move(from, to), op)
    }

    fn taking_time<R>(
        &self,
        space: &MmRef,
        begin: impl FnOnce(&mut Model) -> Token,
        op: impl FnOnce() -> Result<R, MmError>,
    ) -> Result<R, MmError> {
        let object = || space_object(space.id());
        point::touch(AccessKind::Write, object);
        let token = begin(&mut self.model());
        let done = op();
        point::touch(AccessKind::Write, object);
        let ended = match done {
            Ok(_) | Err(MmError::NotMapped) => Ended::Done,
            Err(_) => Ended::Failed,
        };
        self.model().finish(&token, ended);
        done
    }

    /// The private copies of a file from page `first` of it on begin to go.
    pub(super) fn giving_copies_up(&self, file: usize, first: u32) -> Token {
        let mut model = self.model();
        touch_spaces(&model.private_pages(file, first));
        model.begin_cut(file, first)
    }

    /// They are gone. Where it failed, perhaps: a file that was to be shorter is, and one that was
    /// to grow is not.
    pub(super) fn gave_up(&self, (file, first): (usize, u32), token: &Token, done: bool) {
        let ended = if done { Ended::Done } else { Ended::Perhaps };
        let mut model = self.model();
        touch_spaces(&model.private_pages(file, first));
        model.finish(token, ended);
    }

    /// A copy of `space` is made. What it holds is known as far as nobody stored meanwhile. `None`
    /// when it fails.
    pub fn forking(&self, space: &MmRef) -> Option<MmRef> {
        let object = || space_object(space.id());
        point::touch(AccessKind::Write, object);
        let token = self.model().begin_fork(space.id());
        let child = space.fork();
        point::touch(AccessKind::Write, object);
        let mut model = self.model();
        match child {
            Ok(child) => {
                model.finish_fork(&token, child.id());
                drop(model);
                point::touch(AccessKind::Write, || space_object(child.id()));
                Some(child)
            }
            Err(_) => {
                model.finish(&token, Ended::Failed);
                None
            }
        }
    }
}

/// `n` pages of `space` from `va` on.
fn pages_at(space: &MmRef, va: VirtAddr, n: u64) -> Pages {
    Pages {
        mm: space.id(),
        first: va.0 >> PAGE_SHIFT,
        n,
    }
}

/// The running actor changes what is known of these.
fn touch_spaces(pages: &[Pages]) {
    for pages in pages {
        point::touch(AccessKind::Write, || space_object(pages.mm));
    }
}
