//! Where everybody stands between two steps, as the search sees it, and what their CPUs can do
//! then.
//!
//! Locks: the engine's own; what a stopped actor waits for is asked under it.

use alloc::format;
use alloc::string::String;

use algo::explore::{ActorSet, ActorState, ObjectId, Point, PointKind};
use mm::inspect::flag;

use super::disks::ROLES;
use super::{AccessKind, Actor, DELIVERY, Engine, Ordering, Use, Wait, Where, frame, id};
use crate::race::shadow::letter;

impl Engine {
    /// The state of every actor of a run with `n` threads, for a view.
    pub(in crate::race) fn actor_states(&self, n: usize, states: &mut [ActorState]) {
        let s = self.state();
        states.fill(ActorState::Done);
        let mut mail = ActorSet::EMPTY;
        for (i, a) in s.actors[..n].iter().enumerate() {
            let delivery = DELIVERY + i;
            states[delivery] = match (a.mail, a.irq_on) {
                (false, _) => ActorState::Idle,
                (true, true) => ActorState::Ready(Point {
                    kind: PointKind::IpiServe,
                    object: ObjectId(self.mailbox(i)),
                }),
                (true, false) => ActorState::Masked { by: id(i) },
            };
            if a.mail {
                mail.insert(id(delivery));
            }
        }
        for (i, a) in s.actors[..n].iter().enumerate() {
            states[i] = match a.at {
                Where::Home | Where::Ended => ActorState::Done,
                Where::Stopped if self.slots[i].holds() => ActorState::Ready(Point {
                    kind: a.kind,
                    object: a.access.object,
                }),
                Where::Stopped => match a.wait {
                    Wait::Acks => ActorState::IpiWait { missing: mail },
                    Wait::Wake => ActorState::Asleep {
                        on: a.access.object,
                    },
                    Wait::Lock | Wait::Nothing => ActorState::LockBlocked {
                        lock: a.access.object,
                    },
                },
            };
        }
        for role in ROLES {
            states[role.actor] = role.state();
        }
    }

    /// A page of a file that counts as unmapped though a CPU can still write it. Reclaim keeps such
    /// a folio locked until it has flushed: then nobody takes it for clean.
    pub(in crate::race) fn untracked(&self) -> Option<String> {
        let s = self.state();
        let lost = s.shadow.writable().find(|&(cpu, _, pfn)| {
            let f = frame(pfn);
            let in_file = f.usage() == Use::File && f.mapping() != 0;
            let counted = f.mapcount() != 0 || f.has(flag::LOCKED);
            in_file && !counted && self.runs(cpu, &s.actors[cpu])
        });
        lost.map(|(cpu, va, pfn)| {
            let who = letter(cpu);
            format!("{pfn:?} counts as unmapped while {who} can write it at {va:#x}")
        })
    }

    /// The CPU of actor `n`, which stands as `a` says, uses its translations: it has an address
    /// space and is not lazy on it. One that comes back to the space that it was lazy on uses none
    /// before it has looked whether it missed a flush.
    pub(super) fn runs(&self, n: usize, a: &Actor) -> bool {
        let looks = a.kind == PointKind::Space && a.access.kind == AccessKind::Read;
        let comes_back = a.at == Where::Stopped && looks && !a.irq_on;
        let cpu = self.cpu_of[n].load(Ordering::Relaxed);
        let state = mm::inspect::cpu_state(usize::from(cpu));
        state.loaded.is_some() && !state.lazy && !comes_back
    }
}
