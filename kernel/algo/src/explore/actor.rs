//! Actors, their states, and what a strategy sees of them between two steps.

use super::{ObjectId, Point};
use core::fmt;

/// Most actors of a run. By convention threads have the first numbers (`A` on), and 8 on (`I`)
/// deliver the interrupts of their CPUs, in the same order; what else goes on beside the threads
/// has the rest of either half.
pub const MAX_ACTORS: usize = 16;

/// An actor, printed as a letter from `A` to `P`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ActorId(u8);

impl ActorId {
    /// The actor with this number, if it is below [`MAX_ACTORS`].
    #[inline]
    pub const fn new(n: usize) -> Option<Self> {
        if n < MAX_ACTORS {
            Some(Self(n as u8))
        } else {
            None
        }
    }

    /// The actor that this letter (either case) names.
    pub const fn from_letter(c: char) -> Option<Self> {
        let c = c.to_ascii_uppercase();
        if c >= 'A' && c <= 'P' {
            Some(Self(c as u8 - b'A'))
        } else {
            None
        }
    }

    /// Its number.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its letter.
    pub const fn letter(self) -> char {
        (b'A' + self.0) as char
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

/// A set of actors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct ActorSet(u16);

impl ActorSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// `actor` alone.
    #[inline]
    pub const fn single(actor: ActorId) -> Self {
        Self(1 << actor.0)
    }
    /// Puts `actor` in.
    #[inline]
    pub fn insert(&mut self, actor: ActorId) {
        self.0 |= 1 << actor.0;
    }
    /// Takes `actor` out.
    #[inline]
    pub fn remove(&mut self, actor: ActorId) {
        self.0 &= !(1 << actor.0);
    }
    /// `actor` is in it.
    #[inline]
    pub const fn contains(self, actor: ActorId) -> bool {
        self.0 & (1 << actor.0) != 0
    }
    /// Nobody is in it.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// How many are in it.
    #[inline]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }
    /// Everybody of either set.
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Those in both sets.
    #[inline]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// Those not in `other`.
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// The actor with the lowest number.
    #[inline]
    pub const fn first(self) -> Option<ActorId> {
        if self.0 == 0 {
            None
        } else {
            Some(ActorId(self.0.trailing_zeros() as u8))
        }
    }
    /// By ascending number.
    pub fn iter(self) -> impl Iterator<Item = ActorId> {
        let mut left = self;
        core::iter::from_fn(move || {
            let a = left.first()?;
            left.remove(a);
            Some(a)
        })
    }
}

impl FromIterator<ActorId> for ActorSet {
    fn from_iter<T: IntoIterator<Item = ActorId>>(iter: T) -> Self {
        let mut set = Self::EMPTY;
        iter.into_iter().for_each(|a| set.insert(a));
        set
    }
}

impl fmt::Display for ActorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (i, a) in self.iter().enumerate() {
            write!(f, "{}{a}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// What an actor is doing between two steps. (The one that runs is in none of these states: a view
/// is taken when nobody does.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActorState {
    /// Stands at a point and can go on.
    Ready(Point),
    /// Stands before a lock that is held.
    LockBlocked {
        /// The lock.
        lock: ObjectId,
    },
    /// Waits for acknowledgements.
    IpiWait {
        /// The deliveries that are missing.
        missing: ActorSet,
    },
    /// A delivery that waits until `by` turns interrupts on again.
    Masked {
        /// The thread on the CPU that is interrupted.
        by: ActorId,
    },
    /// Sleeps until somebody signals `on` (a wait queue, a disk request).
    Asleep {
        /// What it sleeps on.
        on: ObjectId,
    },
    /// Has nothing to do and may get something (a mailbox without mail, a disk without requests).
    /// Another actor's step may lead here from [`ActorState::Ready`], where the two are ways to go
    /// on of which one is taken.
    Idle,
    /// Has ended.
    Done,
}

impl ActorState {
    /// Can take a step.
    #[inline]
    pub const fn is_enabled(self) -> bool {
        matches!(self, Self::Ready(_))
    }
    /// A run may end while the actor is in this state.
    #[inline]
    pub const fn may_end(self) -> bool {
        matches!(self, Self::Idle | Self::Done)
    }
}

/// All actors between two steps.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    actors: &'a [ActorState],
    enabled: ActorSet,
}

impl<'a> View<'a> {
    /// The states by actor number.
    ///
    /// # Panics
    /// If there are more than [`MAX_ACTORS`].
    #[inline]
    pub fn new(actors: &'a [ActorState]) -> Self {
        assert!(actors.len() <= MAX_ACTORS, "at most 16 actors");
        let mut enabled = 0u16;
        for (i, a) in actors.iter().enumerate() {
            enabled |= u16::from(a.is_enabled()) << i;
        }
        Self {
            actors,
            enabled: ActorSet(enabled),
        }
    }

    /// Who can take a step.
    #[inline]
    pub const fn enabled(&self) -> ActorSet {
        self.enabled
    }

    /// The state of `actor`; one that does not exist has ended.
    #[inline]
    pub fn state(&self, actor: ActorId) -> ActorState {
        self.actors
            .get(actor.index())
            .copied()
            .unwrap_or(ActorState::Done)
    }

    /// Every actor with its state.
    pub fn iter(&self) -> impl Iterator<Item = (ActorId, ActorState)> + 'a {
        let name = |(i, s): (usize, &ActorState)| (ActorId(i as u8), *s);
        self.actors.iter().enumerate().map(name)
    }

    /// Everyone has ended or has nothing to do.
    pub fn all_ended(&self) -> bool {
        self.actors.iter().all(|a| a.may_end())
    }

    /// Who goes on where nothing is prescribed: the one who ran last, else the first who can.
    #[inline]
    pub fn default_choice(&self, last: Option<ActorId>) -> Option<ActorId> {
        last.filter(|a| self.enabled.contains(*a))
            .or(self.enabled.first())
    }
}
