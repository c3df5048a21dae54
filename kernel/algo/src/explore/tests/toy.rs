//! Toy concurrent programs: a world for the search, and an enumeration that knows nothing of the
//! search.

use crate::explore::{
    Access, AccessKind, ActorId, ActorSet, ActorState, Footprint, ObjectId, Point, PointKind,
    Violation, World,
};
use std::collections::BTreeSet;
use std::format;
use std::vec::Vec;

/// One step of a toy thread. Variables, locks and CPUs are small numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Op {
    /// register := variable
    Read(u8),
    /// variable := register + the number
    Write(u8, u8),
    /// variable := the number
    Set(u8, u8),
    Lock(u8),
    Unlock(u8),
    /// Sends an interrupt to the thread's CPU; serving it adds one to variable 0.
    Send(u8),
    /// Waits until the interrupts it sent are served.
    Await,
    IrqOff,
    IrqOn,
    /// Goes back this many steps while the variable is not the number (a spin, for livelocks).
    LoopUnless(u8, u8, u8),
    /// Waits while the variable is the number.
    WaitWhile(u8, u8),
    /// Waits while the first variable is 1 and the second the number (Peterson's wait).
    WaitWhileBoth(u8, u8, u8),
    /// Asks for the variable to be raised by 3, once nobody else's request is under way. That is
    /// served in two steps, or fails at either, as long as failures are left.
    Ask(u8),
    /// Waits until no request is under way.
    AwaitAnswer,
}

const VARS: usize = 4;
const LOCKS: usize = 3;
const THREADS: usize = 4;
/// Serves requests, and fails them.
const SERVANT: usize = 4;
const SPOILER: usize = 5;
/// Requests that fail, at most.
const FAILURES: u8 = 1;
/// The first delivery actor.
const SERVE: usize = 8;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub(super) struct State {
    pub(super) vars: [u8; VARS],
    pub(super) regs: [u8; THREADS],
    pc: [u8; THREADS],
    owner: [Option<u8>; LOCKS],
    /// By receiver: the senders whose interrupt waits.
    mail: [u8; THREADS],
    irq_off: [bool; THREADS],
    /// The request under way: its variable, and whether that was raised.
    asked: Option<(u8, bool)>,
    failed: u8,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct End {
    pub(super) state: State,
    pub(super) stuck: bool,
}

pub(super) type Program = Vec<Vec<Op>>;

const fn var(v: u8) -> u32 {
    v as u32
}
const fn lock(l: u8) -> u32 {
    100 + l as u32
}
const fn mailbox(cpu: usize) -> u32 {
    200 + cpu as u32
}
const fn irq_flag(cpu: usize) -> u32 {
    300 + cpu as u32
}
const REQUEST: u32 = 400;
const FAILED: u32 = 401;

impl State {
    fn op(&self, program: &Program, thread: usize) -> Option<Op> {
        program[thread].get(self.pc[thread] as usize).copied()
    }

    fn thread_state(&self, program: &Program, t: usize) -> ActorState {
        let ready = |kind, object| {
            ActorState::Ready(Point {
                kind,
                object: ObjectId(object),
            })
        };
        let asleep = |v| ActorState::Asleep {
            on: ObjectId(var(v)),
        };
        match self.op(program, t) {
            None => ActorState::Done,
            Some(Op::Lock(l)) if self.owner[l as usize].is_some() => ActorState::LockBlocked {
                lock: ObjectId(lock(l)),
            },
            Some(Op::Lock(l)) => ready(PointKind::Lock, lock(l)),
            Some(Op::Unlock(l)) => ready(PointKind::Unlock, lock(l)),
            Some(Op::Await) => {
                let missing: ActorSet = (0..THREADS)
                    .filter(|&c| self.mail[c] & (1 << t) != 0)
                    .filter_map(|c| ActorId::new(SERVE + c))
                    .collect();
                if missing.is_empty() {
                    ready(PointKind::IpiWait, mailbox(t))
                } else {
                    ActorState::IpiWait { missing }
                }
            }
            Some(Op::Read(v)) => ready(PointKind::CellRead, var(v)),
            Some(Op::Send(c)) => ready(PointKind::IpiSend, mailbox(c as usize)),
            Some(Op::IrqOff | Op::IrqOn) => ready(PointKind::IrqOff, irq_flag(t)),
            Some(Op::Write(v, _) | Op::Set(v, _)) => ready(PointKind::CellWrite, var(v)),
            Some(Op::WaitWhile(v, n)) if self.vars[v as usize] == n => asleep(v),
            Some(Op::WaitWhileBoth(a, b, n))
                if self.vars[a as usize] == 1 && self.vars[b as usize] == n =>
            {
                asleep(a)
            }
            Some(Op::Ask(_) | Op::AwaitAnswer) if self.asked.is_some() => ActorState::Asleep {
                on: ObjectId(REQUEST),
            },
            Some(Op::Ask(_) | Op::AwaitAnswer) => ready(PointKind::DiskStart, REQUEST),
            Some(Op::LoopUnless(v, ..) | Op::WaitWhile(v, _) | Op::WaitWhileBoth(v, ..)) => {
                ready(PointKind::CellRead, var(v))
            }
        }
    }

    fn server_state(&self, cpu: usize) -> ActorState {
        match (self.mail[cpu], self.irq_off[cpu], ActorId::new(cpu)) {
            (0, ..) => ActorState::Idle,
            (_, true, Some(by)) => ActorState::Masked { by },
            _ => ActorState::Ready(Point {
                kind: PointKind::IpiServe,
                object: ObjectId(mailbox(cpu)),
            }),
        }
    }

    fn choice(&self, open: bool, kind: PointKind) -> ActorState {
        match open && self.asked.is_some() {
            true => ActorState::Ready(Point {
                kind,
                object: ObjectId(REQUEST),
            }),
            false => ActorState::Idle,
        }
    }

    fn fill(&self, program: &Program, actors: &mut Vec<ActorState>) {
        actors.clear();
        actors.resize(SERVE + program.len(), ActorState::Done);
        for t in 0..program.len() {
            actors[t] = self.thread_state(program, t);
            actors[SERVE + t] = self.server_state(t);
        }
        actors[SERVANT] = self.choice(true, PointKind::DiskDone);
        actors[SPOILER] = self.choice(self.failed < FAILURES, PointKind::DiskFail);
    }

    fn step(&mut self, program: &Program, actor: usize) -> Footprint {
        match actor {
            SERVE.. => return self.serve(actor - SERVE),
            SERVANT => return self.answer(),
            SPOILER => return self.spoil(),
            _ => {}
        }
        let t = actor;
        let op = self.op(program, t).expect("a thread with steps left");
        self.pc[t] += 1;
        let touch = |kind, object| Footprint::of(Access::new(kind, object));
        match op {
            Op::Read(v) => {
                self.regs[t] = self.vars[v as usize];
                touch(AccessKind::Read, var(v))
            }
            Op::Write(v, n) => {
                self.vars[v as usize] = self.regs[t].wrapping_add(n);
                touch(AccessKind::Write, var(v))
            }
            Op::Set(v, n) => {
                self.vars[v as usize] = n;
                touch(AccessKind::Write, var(v))
            }
            Op::Lock(l) => {
                self.owner[l as usize] = Some(t as u8);
                touch(AccessKind::Lock, lock(l))
            }
            Op::Unlock(l) => {
                self.owner[l as usize] = None;
                touch(AccessKind::Unlock, lock(l))
            }
            Op::Send(c) => {
                self.mail[c as usize] |= 1 << t;
                touch(AccessKind::Write, mailbox(c as usize))
            }
            // What made it ready wrote the mailboxes; nothing makes it wait again.
            Op::Await => {
                let mut f = Footprint::EMPTY;
                (0..program.len()).for_each(|c| f.add(Access::new(AccessKind::Read, mailbox(c))));
                f
            }
            Op::IrqOff | Op::IrqOn => {
                self.irq_off[t] = op == Op::IrqOff;
                touch(AccessKind::Write, irq_flag(t))
            }
            Op::LoopUnless(v, n, back) => {
                if self.vars[v as usize] != n {
                    self.pc[t] -= back;
                }
                touch(AccessKind::Read, var(v))
            }
            Op::WaitWhile(v, _) => touch(AccessKind::Read, var(v)),
            Op::Ask(v) => {
                self.asked = Some((v, false));
                touch(AccessKind::Write, REQUEST)
            }
            Op::AwaitAnswer => touch(AccessKind::Read, REQUEST),
            Op::WaitWhileBoth(a, b, _) => {
                let mut f = touch(AccessKind::Read, var(a));
                f.add(Access::new(AccessKind::Read, var(b)));
                f
            }
        }
    }

    fn answer(&mut self) -> Footprint {
        let mut f = Footprint::of(Access::new(AccessKind::Write, REQUEST));
        match self.asked {
            Some((v, false)) => {
                self.vars[v as usize] = self.vars[v as usize].wrapping_add(3);
                self.asked = Some((v, true));
                f.add(Access::new(AccessKind::Write, var(v)));
            }
            _ => self.asked = None,
        }
        f
    }

    fn spoil(&mut self) -> Footprint {
        self.asked = None;
        self.failed += 1;
        let mut f = Footprint::of(Access::new(AccessKind::Write, REQUEST));
        f.add(Access::new(AccessKind::Write, FAILED));
        f
    }

    fn serve(&mut self, cpu: usize) -> Footprint {
        self.mail[cpu] = 0;
        self.vars[0] = self.vars[0].wrapping_add(1);
        let mut f = Footprint::of(Access::new(AccessKind::Write, mailbox(cpu)));
        f.add(Access::new(AccessKind::Read, irq_flag(cpu)));
        f.add(Access::new(AccessKind::Write, var(0)));
        f
    }
}

/// A program as a world.
pub(super) struct Toy {
    program: Program,
    pub(super) state: State,
    actors: Vec<ActorState>,
    /// The final oracle: whether the state is bad.
    bad: fn(&State) -> bool,
    hashes: bool,
    /// Runs after which the world stops being the same (0: never).
    pub(super) drift: usize,
    runs: usize,
}

impl Toy {
    pub(super) fn new(program: Program, bad: fn(&State) -> bool) -> Self {
        Self {
            program,
            state: State::default(),
            actors: Vec::new(),
            bad,
            hashes: false,
            drift: 0,
            runs: 0,
        }
    }

    pub(super) fn with_hashes(mut self) -> Self {
        self.hashes = true;
        self
    }
}

impl World for Toy {
    fn reset(&mut self) {
        self.state = State::default();
        self.runs += 1;
        if self.drift != 0 && self.runs > self.drift {
            // Somebody else's lock, which was not held in the runs before.
            self.state.owner[0] = Some(3);
        }
        self.state.fill(&self.program, &mut self.actors);
    }

    fn actors(&self) -> &[ActorState] {
        &self.actors
    }

    fn step(&mut self, actor: ActorId) -> Footprint {
        let footprint = self.state.step(&self.program, actor.index());
        self.state.fill(&self.program, &mut self.actors);
        footprint
    }

    fn check_end(&mut self) -> Option<Violation> {
        (self.bad)(&self.state).then(|| Violation {
            oracle: "toy",
            detail: format!("{:?}", self.state.vars),
        })
    }

    fn state_hash(&self) -> Option<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        self.hashes.then(|| {
            let mut h = DefaultHasher::new();
            self.state.hash(&mut h);
            h.finish()
        })
    }
}

/// Everything that schedules with at most `bound` preemptions lead to, and how many there are.
pub(super) fn enumerate(program: &Program, bound: Option<u32>) -> (BTreeSet<End>, u64) {
    let mut ends = BTreeSet::new();
    let mut runs = 0;
    visit(program, State::default(), None, bound, &mut ends, &mut runs);
    (ends, runs)
}

fn visit(
    program: &Program,
    state: State,
    last: Option<usize>,
    left: Option<u32>,
    ends: &mut BTreeSet<End>,
    runs: &mut u64,
) {
    let mut actors = Vec::new();
    state.fill(program, &mut actors);
    let ready = |a: usize| actors[a].is_enabled();
    if !(0..actors.len()).any(ready) {
        let stuck = !actors.iter().all(|a| a.may_end());
        ends.insert(End { state, stuck });
        *runs += 1;
        return;
    }
    for a in (0..actors.len()).filter(|&a| ready(a)) {
        let preempts = last.is_some_and(|l| l != a && ready(l));
        let left = match left {
            Some(0) if preempts => continue,
            Some(n) => Some(n - u32::from(preempts)),
            None => None,
        };
        let mut next = state.clone();
        next.step(program, a);
        visit(program, next, Some(a), left, ends, runs);
    }
}
