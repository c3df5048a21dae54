//! Counted handles on address spaces; the last one to go tears the address space down.
//!
//! Dropping the last handle sleeps (see `exit`), so it must not happen under a lock. Taking and
//! giving up others takes no lock.

use crate::error::MmError;
use crate::mm::{Mm, id_limit, pool};
use crate::{exit, pt};
use core::sync::atomic::Ordering;

/// A counted handle on an address space.
pub struct MmRef(u32);

impl MmRef {
    /// A new, empty address space.
    ///
    /// # Errors
    /// [`MmError::NoMemory`] when there is no object or no frame for the PGD.
    pub fn new() -> Result<Self, MmError> {
        let id = pool().alloc()?;
        match pt::alloc_root() {
            Ok(root) => pool().get(id).start(root),
            Err(_) => {
                pool().free(id);
                return Err(MmError::NoMemory);
            }
        }
        Ok(Self(id))
    }

    /// A handle on the address space with this id, if it is live.
    pub fn by_id_live(id: u32) -> Option<Self> {
        if id >= id_limit() {
            return None;
        }
        let mm = pool().get(id);
        if !mm.seems_used() {
            return None;
        }
        mm.users_point();
        mm.users
            .try_update(Ordering::Acquire, Ordering::Relaxed, |n| {
                if n == 0 { None } else { Some(n + 1) }
            })
            .ok()
            .map(|_| Self(id))
    }

    /// Gives the handle up, unless it is the last one: then it comes back.
    ///
    /// # Errors
    /// The handle, when dropping it would tear the address space down.
    pub(crate) fn put_unless_last(self) -> Result<(), Self> {
        let mm: &Mm = &self;
        mm.users_point();
        // Release: what was done through this handle comes before the teardown.
        let before = mm
            .users
            .try_update(Ordering::Release, Ordering::Relaxed, |n| {
                (n > 1).then(|| n - 1)
            });
        match before {
            Ok(_) => {
                core::mem::forget(self);
                Ok(())
            }
            Err(_) => Err(self),
        }
    }

    /// The handle that somebody forgot and left the id of.
    pub(crate) fn adopt_handle(id: u32) -> Self {
        Self(id)
    }

    /// The id: small, and reused after the address space is gone.
    #[inline]
    pub fn id(&self) -> u32 {
        self.0
    }
}

impl Clone for MmRef {
    fn clone(&self) -> Self {
        let mm: &Mm = self;
        mm.users_point();
        mm.users.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl core::ops::Deref for MmRef {
    type Target = Mm;
    #[inline]
    fn deref(&self) -> &Mm {
        pool().get(self.0)
    }
}

impl Drop for MmRef {
    fn drop(&mut self) {
        let mm: &Mm = self;
        mm.users_point();
        if mm.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            exit::teardown(self.0, mm);
            pool().free(self.0);
        }
    }
}
