//! Bugs that are there on purpose, so that the explorer can be seen to find each kind: a wrong
//! result, a deadlock, a livelock, an actor that is starved. They use no memory management, only
//! words of the stage and two locks.

use alloc::format;
use core::sync::atomic::Ordering::Relaxed;

use sync::point::{self, AccessKind, PointKind, class};
use sync::{Rank, RawSpin};

use super::play::{Play, must};
use crate::race::scenario::Disks;
use crate::race::stage::Stage;

/// A point before the running actor touches word `i` of the stage.
fn mark(access: AccessKind, i: usize) {
    point::at(PointKind::Mark, access, || {
        point::object(class::OWN, i as u64)
    });
}

/// Two actors without an address space.
const BARE: Play = Play {
    spaces: &[None, None],
    setup: |_| Ok(()),
    ..Play::NEW
};

/// The smallest race: read, then write what was read and one.
pub(super) static LOST_UPDATE: Play = Play {
    name: "planted-lost-update",
    about: "A and B each read a word, then write one more than they read",
    run: |stage, _| {
        mark(AccessKind::Read, 0);
        let seen = stage.word(0).load(Relaxed);
        mark(AccessKind::Write, 0);
        stage.word(0).store(seen + 1, Relaxed);
    },
    check: |stage| match stage.word(0).load(Relaxed) {
        2 => Ok(()),
        n => Err(format!("an update was lost: the word is {n}, not 2")),
    },
    ..BARE
};

static LEFT: RawSpin = RawSpin::new();
static RIGHT: RawSpin = RawSpin::new();

/// Two locks in either order. They are of one rank, whose order is left to the callers, so only a
/// run in which the two meet shows it.
pub(super) static DEADLOCK: Play = Play {
    name: "planted-deadlock",
    about: "A takes two locks of one rank, B takes them in the other order",
    run: |_, me| {
        let (first, second) = if me == 0 {
            (&LEFT, &RIGHT)
        } else {
            (&RIGHT, &LEFT)
        };
        let _first = first.lock(Rank::Ptl);
        let _second = second.lock_nested(Rank::Ptl);
    },
    ..BARE
};

/// Each waits for the other's word before it writes its own, and asks for it again and again.
pub(super) static LIVELOCK: Play = Play {
    name: "planted-livelock",
    about: "A and B poll each other's word, and each sets its own only then",
    run: |stage, me| {
        let other = 1 - me;
        while !stage.ending() {
            mark(AccessKind::Read, other);
            if stage.word(other).load(Relaxed) != 0 {
                break;
            }
        }
        mark(AccessKind::Write, me);
        stage.word(me).store(1, Relaxed);
    },
    ..BARE
};

/// A polls until B has set a word, however long B is not let on. It does not ask whether the run is
/// given up: the explorer has to let B on then.
pub(super) static STARVED: Play = Play {
    name: "planted-starvation",
    about: "A polls a word that B sets, and never sleeps",
    run: |stage, me| {
        if me == 1 {
            mark(AccessKind::Write, 0);
            stage.word(0).store(1, Relaxed);
            return;
        }
        while stage.word(0).load(Relaxed) == 0 {
            mark(AccessKind::Read, 0);
        }
    },
    ..BARE
};

/// A panic of the code under test, in the one order. In the kernel it would end the machine.
#[cfg(not(target_os = "none"))]
pub(super) static PANIC: Play = Play {
    name: "planted-panic",
    about: "A panics if B came between its two looks at a word",
    run: |stage, me| {
        mark(AccessKind::Write, 0);
        let before = stage.word(0).load(Relaxed);
        if me == 1 {
            stage.word(0).store(1, Relaxed);
            return;
        }
        mark(AccessKind::Read, 0);
        let after = stage.word(0).load(Relaxed);
        assert!(before == after, "the word changed on the way");
    },
    ..BARE
};

/// Pages of the file of the disk that is no good one.
const FILE_PAGES: u32 = 3;
/// A word of the second half of its first page, and one of a page that does not follow that.
const SECOND_HALF: u64 = 2048 + 8;
const LAST_PAGE: u64 = 2 * arch::PAGE_SIZE;

/// A file whose words are 1 on the disk and 2 in memory.
fn written_file(stage: &Stage) -> Result<(), mm::MmError> {
    stage.open_file(0, FILE_PAGES)?;
    for at in [0, SECOND_HALF, LAST_PAGE] {
        stage.on_disk(0, at, 1);
        stage.fill_file(0, at, 2)?;
    }
    Ok(())
}

/// B looks at the disk: the word at `later` is not the new one as long as that at 0 is the old one.
fn in_order(stage: &Stage, later: u64) {
    let new = stage.look_at_disk(0, later) == Some(2);
    if new && stage.look_at_disk(0, 0) != Some(2) {
        stage.violated("scenario", format!("byte {later:#x} came before byte 0"));
    }
}

/// A disk that fails, which the sync has to tell.
pub(super) static DISK_FAILS: Play = Play {
    name: "planted-failure",
    about: "A makes a file durable and takes it that the disk does not fail",
    disks: |_| Disks {
        failures: 1,
        ..Disks::TAME
    },
    setup: written_file,
    run: |stage, me| {
        if me == 0 {
            must(stage, "sync", stage.sync_file(0));
        }
    },
    ..BARE
};

/// A disk that serves a request before one that came earlier.
pub(super) static DISK_OVERTAKES: Play = Play {
    name: "planted-overtaking",
    about: "A writes two pages of a file, and B takes it that the first comes to the disk first",
    disks: |_| Disks {
        overtake: true,
        ..Disks::TAME
    },
    run: |stage, me| match me {
        0 => must(stage, "sync", stage.sync_file(0)),
        _ => in_order(stage, LAST_PAGE),
    },
    ..DISK_FAILS
};

/// A disk that has written half of a page.
pub(super) static DISK_HALVES: Play = Play {
    name: "planted-halves",
    about: "A writes a page of a file, and B takes it that it comes to the disk whole",
    disks: |_| Disks {
        halves: true,
        ..Disks::TAME
    },
    run: |stage, me| match me {
        0 => must(stage, "sync", stage.sync_file(0)),
        _ => {
            let first = stage.look_at_disk(0, 0);
            if first == Some(2) && stage.look_at_disk(0, SECOND_HALF) != Some(2) {
                stage.violated("scenario", "half of the page is on the disk".into());
            }
        }
    },
    ..DISK_FAILS
};
