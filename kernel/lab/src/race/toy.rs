//! A world of small programs, for the tests of what explores.

use algo::explore::{
    Access, AccessKind, ActorId, ActorState, Footprint, ObjectId, Point, PointKind, Violation,
    World,
};

/// One step of a program; variables and locks are small numbers.
#[derive(Clone, Copy)]
pub(super) enum Op {
    /// register := variable
    Load(usize),
    /// variable := register + 1
    Store(usize),
    Lock(usize),
    Unlock(usize),
    /// Again and again, until the variable is not 0.
    Poll(usize),
}
use Op::{Load, Lock, Poll, Store, Unlock};

/// Programs, one for each actor. Variable 0 must end as `sum`.
pub(super) struct Toy {
    programs: &'static [&'static [Op]],
    sum: u64,
    vars: [u64; 4],
    owner: [Option<usize>; 2],
    registers: [u64; 4],
    next: [usize; 4],
    states: Vec<ActorState>,
    /// Runs after which lock 0 is not free at the start.
    pub(super) drifts_after: usize,
    /// Runs after which updates are no longer lost.
    pub(super) heals_after: usize,
    pub(super) runs: usize,
}

/// Two actors that each add one to variable 0 without a lock.
pub(super) const LOST_UPDATE: &[&[Op]] = &[
    &[Load(1), Load(0), Store(0), Load(2)],
    &[Load(2), Load(0), Store(0), Load(1)],
];
/// The same with a lock.
pub(super) const SAFE_UPDATE: &[&[Op]] = &[
    &[Lock(0), Load(0), Store(0), Unlock(0)],
    &[Lock(0), Load(0), Store(0), Unlock(0)],
];
/// Two locks in either order.
pub(super) const DEADLOCK: &[&[Op]] = &[
    &[Lock(0), Lock(1), Unlock(1), Unlock(0)],
    &[Lock(1), Lock(0), Unlock(0), Unlock(1)],
];
/// Each polls for what the other does after its own poll.
pub(super) const LIVELOCK: &[&[Op]] = &[&[Poll(1), Store(2)], &[Poll(2), Store(1)]];

impl Toy {
    pub(super) fn new(programs: &'static [&'static [Op]], sum: u64) -> Self {
        Self {
            programs,
            sum,
            vars: [0; 4],
            owner: [None; 2],
            registers: [0; 4],
            next: [0; 4],
            states: Vec::new(),
            drifts_after: usize::MAX,
            heals_after: usize::MAX,
            runs: 0,
        }
    }

    fn state(&self, me: usize) -> ActorState {
        let Some(op) = self.programs[me].get(self.next[me]) else {
            return ActorState::Done;
        };
        let (kind, object) = match *op {
            Lock(l) if self.owner[l].is_some() => {
                let lock = ObjectId(100 + l as u32);
                return ActorState::LockBlocked { lock };
            }
            Lock(l) => (PointKind::Lock, 100 + l),
            Unlock(l) => (PointKind::Unlock, 100 + l),
            Load(v) | Store(v) | Poll(v) => (PointKind::Mark, v),
        };
        let object = ObjectId(object as u32);
        ActorState::Ready(Point { kind, object })
    }

    fn look(&mut self) {
        let all = 0..self.programs.len();
        self.states = all.map(|me| self.state(me)).collect();
    }
}

impl World for Toy {
    fn reset(&mut self) {
        self.runs += 1;
        (self.vars, self.registers, self.next) = ([0; 4], [0; 4], [0; 4]);
        self.owner = [None; 2];
        if self.runs > self.drifts_after {
            self.owner[0] = Some(3);
        }
        self.look();
    }

    fn actors(&self) -> &[ActorState] {
        &self.states
    }

    fn step(&mut self, actor: ActorId) -> Footprint {
        let me = actor.index();
        let op = self.programs[me][self.next[me]];
        self.next[me] += 1;
        let (kind, object) = match op {
            Load(v) => {
                self.registers[me] = self.vars[v];
                (AccessKind::Read, v)
            }
            Store(v) => {
                self.vars[v] = self.registers[me] + 1;
                (AccessKind::Write, v)
            }
            Lock(l) => {
                self.owner[l] = Some(me);
                (AccessKind::Lock, 100 + l)
            }
            Unlock(l) => {
                self.owner[l] = None;
                (AccessKind::Unlock, 100 + l)
            }
            Poll(v) => {
                self.next[me] -= usize::from(self.vars[v] == 0);
                (AccessKind::Read, v)
            }
        };
        self.look();
        Footprint::of(Access::new(kind, object as u32))
    }

    fn check_end(&mut self) -> Option<Violation> {
        let lost = self.vars[0] != self.sum && self.runs <= self.heals_after;
        lost.then(|| Violation {
            oracle: "sum",
            detail: format!("an update was lost: {}", self.vars[0]),
        })
    }
}
