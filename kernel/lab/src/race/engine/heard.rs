//! What the engine hears of the running actor: where it stops, what it touches, what became of
//! translations and frames.
//!
//! Locks: the engine's own. What an actor in a quiet section waits for is done at once, by itself:
//! interrupts are delivered, the disks work.

use super::disks::ROLES;
use super::*;

impl Engine {
    /// In a quiet section: makes true what is waited for.
    fn wait_quietly(&self, cond: &(dyn Fn() -> bool + Sync)) {
        while !cond() {
            let waiting = {
                let s = self.state();
                s.actors.iter().position(|a| a.mail)
            };
            if let Some(i) = waiting {
                self.deliver(i);
            } else if let Some(role) = ROLES.iter().find(|r| r.is_busy()) {
                self.disk_step(*role);
            } else {
                panic!("a step that is not explored waits for what nobody will do");
            }
        }
    }

    /// A frame is about to be free: nobody may reach it any more.
    fn freed(&self, pfn: Pfn) {
        // Before the lock: to look at a CPU's state touches it, which belongs to the step.
        let stand = self.state().actors;
        let mut runs = [false; actor::MAX_ACTORS];
        for (n, runs) in runs.iter_mut().enumerate() {
            let there = self.cpu_of[n].load(Ordering::Relaxed) != NOBODY;
            *runs = there && self.runs(n, &stand[n]);
        }
        let mut s = self.state();
        if let Some(text) = s.shadow.freed(pfn, |i| runs[i]) {
            s.note_violation("stale-free", text);
        }
        s.touch(AccessKind::Write, object(class::CONTENT, u64::from(pfn.0)));
    }

    /// The running actor's MMU makes an access.
    pub(in crate::race) fn user_access(&self, va: VirtAddr, store: Option<u64>) -> Outcome {
        let Some(me) = me() else {
            return Outcome::Fault;
        };
        let root = arch::current_root();
        let mut s = self.state();
        let mut touched = s.step.unwrap_or(Footprint::EMPTY);
        touched.add(Access::new(AccessKind::Write, tlb_object()));
        let mut wrong = None;
        let outcome = s
            .shadow
            .access(me, root, va, store, &mut touched, &mut wrong);
        if s.step.is_some() {
            s.step = Some(touched);
        }
        if let Some((oracle, text)) = wrong {
            s.note_violation(oracle, text);
        }
        outcome
    }
}

impl Explorer for Engine {
    fn stop(&self, stop: &Stop<'_>) -> Go {
        let (wait, cond) = match stop.until {
            Until::Now => (Wait::Nothing, None),
            Until::Lock(c) => (Wait::Lock, Some(c)),
            Until::Acks(c) => (Wait::Acks, Some(c)),
            Until::Woken(c) => (Wait::Wake, Some(c)),
        };
        let quiet = Quiet::is_on() || sync::unwinding();
        let Some(me) = me().filter(|_| !quiet) else {
            if let Some(c) = cond {
                self.wait_quietly(c);
                self.touch(stop.access, stop.object);
            }
            return Go::Free;
        };
        {
            let mut s = self.state();
            let free = cond.is_none_or(|c| c());
            let patient = s.ending && s.actors[me].passed < PATIENCE;
            let unasked = cond.is_none() && !s.stops.contains(stop.kind);
            let access = Access::new(stop.access, stop.object);
            if unasked || patient && free {
                s.actors[me].passed += u32::from(s.ending);
                s.touch(stop.access, stop.object);
                return Go::Free;
            }
            let a = &mut s.actors[me];
            a.at = Where::Stopped;
            (a.kind, a.access, a.wait) = (stop.kind, access, wait);
            a.irq_on = sync::irq::enabled();
            a.go = Go::Free;
            a.passed = 0;
        }
        match cond {
            Some(c) => self.slots[me].during(c, actor::suspend),
            None => actor::suspend(),
        };
        self.state().actors[me].go
    }

    fn touch(&self, access: AccessKind, object: u32) {
        self.state().touch(access, object);
    }

    fn note(&self, note: Note) {
        let cpu = me();
        if let Note::FrameFreed(pfn) = note {
            return self.freed(Pfn(pfn));
        }
        let mut s = self.state();
        match (note, cpu) {
            (Note::Invlpg(va), Some(cpu)) => s.shadow.invlpg(cpu, va),
            (Note::FlushLocal | Note::SwitchRoot(_), Some(cpu)) => s.shadow.flush(cpu),
            (Note::Walked(pfn), _) => return walked(&mut s, Pfn(pfn)),
            (_, None) | (Note::FrameFreed(_), _) => return,
        }
        s.touch(AccessKind::Write, tlb_object());
    }

    fn tlb_ipi(&self, to: CpuMask) {
        let mut s = self.state();
        for cpu in to.iter() {
            let n = self.on_cpu[cpu].load(Ordering::Relaxed);
            assert!(
                n != NOBODY,
                "TLB interrupt to CPU {cpu}, which has no actor"
            );
            s.actors[usize::from(n)].mail = true;
            s.touch(AccessKind::Write, object(class::MAILBOX, cpu as u64));
        }
    }

    fn unpark(&self, task: TaskId) -> bool {
        self.touch(AccessKind::Write, object(class::SLEEP, u64::from(task.0)));
        // Whether it is woken is seen in its queue; a thread that is no actor is waiting somewhere
        // else.
        let is = |t: &AtomicU16| t.load(Ordering::Relaxed) == task.0;
        self.tasks.iter().any(is)
    }
}

/// Code goes through a page table without a lock: it must be one still.
fn walked(s: &mut State, table: Pfn) {
    s.touch(AccessKind::Read, object(class::CONTENT, u64::from(table.0)));
    if frame(table).usage() != Use::Table {
        s.note_violation(
            "stale-walk",
            format!("a walk goes through {table:?}, freed"),
        );
    }
}
