//! Translations that outlive their entries: unmapping, write protection and copies against user
//! accesses on other CPUs.

use alloc::format;
use mm::knobs::Knob;

use super::play::{HOME, Play, dont_need, fork, must, one_space, page, unmap, whatever};
use crate::shown::Maybe;

/// Rule 1: unhook, flush, free.
pub(super) static GATHER_ORDER: Play = Play {
    name: "gather-order",
    about: "A drops a page that B, in the same address space, goes on reading",
    fixes: &[Knob::TlbFlush],
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 1));
        }
    },
    run: |stage, me| {
        if me == 0 {
            dont_need(stage, 0, HOME, 1);
        } else {
            whatever(stage.load(HOME));
            whatever(stage.load(HOME));
        }
    },
    ..Play::NEW
};

/// Rule 3: a fork's write protection is on every CPU before the fork is over.
pub(super) static FORK_VS_WRITE: Play = Play {
    name: "fork-vs-write",
    about: "A forks while B writes; the child must stay as it was at the fork",
    fixes: &[Knob::WpFlush],
    enter: |stage, me| {
        if me == 1 {
            must(stage, "store", stage.store(HOME, 1));
        }
    },
    run: |stage, me| {
        if me == 1 {
            return must(stage, "store", stage.store(HOME, 2));
        }
        fork(stage);
        stage.set(0, stage.peek(1, HOME).unwrap_or(0));
    },
    check: |stage| {
        let (then, now) = (stage.get(0), stage.peek(1, HOME));
        match now {
            Some(n) if n == then => Ok(()),
            now => Err(format!(
                "the child held {then} after the fork, now {}",
                Maybe(now)
            )),
        }
    },
    ..Play::NEW
};

/// Rule 1 for a copy on write: nobody reads the old page once the new one is written.
pub(super) static COW_VS_COW: Play = Play {
    name: "cow-vs-cow",
    about: "A and B, parent and child, write a page they share; C reads it in the parent",
    fixes: &[Knob::CowFlush],
    spaces: &[Some(0), Some(1), Some(0)],
    setup: |stage| {
        one_space(stage, 1)?;
        stage.fill(0, HOME, 1)?;
        stage.put(1, stage.space(0).fork()?);
        stage.forked(0, 1);
        Ok(())
    },
    enter: |stage, me| {
        if me == 2 {
            must(stage, "load", stage.load(HOME));
        }
    },
    run: |stage, me| match me {
        0 => must(stage, "store", stage.store(HOME, 10)),
        1 => must(stage, "store", stage.store(HOME, 20)),
        _ => must(stage, "load", stage.load(HOME)),
    },
    ..Play::NEW
};

/// Rule 6: who waits for acknowledgements answers requests.
pub(super) static CROSSED_SHOOTDOWNS: Play = Play {
    name: "crossed-shootdowns",
    about: "A and B each drop a page that the other's CPU has translated",
    fixes: &[Knob::AckIrqsOn],
    setup: |stage| one_space(stage, 2),
    enter: |stage, me| {
        for i in 0..2 {
            must(stage, "store", stage.store(page(i), 1 + me as u64));
        }
    },
    run: |stage, me| dont_need(stage, 0, page(me as u64), 1),
    ..Play::NEW
};

/// Rule 4: what was seen without the lock is looked at again under it.
pub(super) static FAULT_VS_FAULT: Play = Play {
    name: "fault-vs-fault",
    about: "A and B write different words of a page that neither has touched",
    fixes: &[Knob::PmdRecheck, Knob::PteRecheck],
    run: |stage, me| {
        let va = arch::VirtAddr(HOME.0 + 8 * me as u64);
        must(stage, "store", stage.store(va, 1 + me as u64));
    },
    ..Play::NEW
};

/// Rule 5: tables are freed only after those who walk without a lock have gone.
pub(super) static TABLE_FREE: Play = Play {
    name: "table-free-vs-lockless-walk",
    about: "A unmaps a page and its table while B walks there without a lock",
    fixes: &[Knob::TableFlush],
    setup: |stage| {
        one_space(stage, 1)?;
        stage.fill(0, HOME, 1)
    },
    run: |stage, me| {
        if me == 0 {
            return unmap(stage, 0, HOME);
        }
        let irq = sync::irq::disable();
        let held = mm::adopt::follow_fast(&irq, HOME);
        drop(irq);
        drop(held);
    },
    ..Play::NEW
};
