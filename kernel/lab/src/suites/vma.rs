//! Areas: mmap, munmap, mprotect, mremap, and what they refuse.

use arch::upcall::FaultError;
use arch::{VirtAddr, user};
use mm::MmError;

use super::{BASE, FAR, Outcome, mapped, without_leak};
use crate::selftest::{Suite, TestCtx};
use crate::space::{Advice, Prot, Space, at};
use crate::{check, check_eq, tests};

pub(super) static SUITE: Suite = Suite {
    name: "vma",
    tests: tests![
        neighbours_merge_and_holes_split,
        mmap_finds_room_and_honours_hints,
        mprotect_splits_and_merges_back,
        mremap_grows_shrinks_and_moves,
        bad_arguments_are_refused,
        unmapped_ranges_are_refused,
        #[cfg(not(target_os = "none"))]
        one_space_has_no_more_areas_than_it_may,
    ],
};

fn areas(space: &Space) -> usize {
    space.mm().areas().count()
}

fn neighbours_merge_and_holes_split(_: &mut TestCtx<'_>) -> Outcome {
    let space = mapped(4)?;
    check_eq!(areas(&space), 1);
    space.map(at(BASE, 4), 4, Prot::RW)?;
    check_eq!(areas(&space), 1);
    space.map(at(BASE, 8), 1, Prot::READ)?;
    check_eq!(areas(&space), 2);
    space.unmap(at(BASE, 2), 2)?;
    check_eq!(areas(&space), 3);
    space.map(at(BASE, 2), 2, Prot::RW)?;
    check_eq!(areas(&space), 2);
    space.unmap(BASE, 64)?;
    check_eq!(areas(&space), 0);
    check_eq!(space.mm().total_vm.get(), 0);
    Ok(())
}

fn mmap_finds_room_and_honours_hints(_: &mut TestCtx<'_>) -> Outcome {
    let space = mapped(4)?;
    let a = space.map_anywhere(3)?;
    let b = space.map_anywhere(3)?;
    let apart = a.0.abs_diff(b.0) >= 3 * arch::PAGE_SIZE;
    check!(
        apart && a.0 >= arch::addr::USER_MIN && a.0 < arch::USER_TOP,
        "{a:?} and {b:?}"
    );
    let hint = at(BASE, 100);
    check_eq!(space.map_near(hint, 2)?, hint);
    let other = space.map_near(BASE, 2)?;
    check!(
        other.0 < BASE.0 || other.0 >= at(BASE, 4).0,
        "the hint's place was taken, got {other:?}"
    );
    check_eq!(
        space.map_noreplace(at(BASE, 3), 2).err(),
        Some(MmError::Exists)
    );
    space.map_noreplace(at(BASE, 4), 2)?;
    Ok(())
}

fn mprotect_splits_and_merges_back(_: &mut TestCtx<'_>) -> Outcome {
    let space = mapped(3)?;
    let _adopted = space.enter();
    let middle = at(BASE, 1);
    for i in 0..3 {
        user::store(at(BASE, i), i as u64 + 1)?;
    }
    space.protect(middle, 1, Prot::READ)?;
    check_eq!(areas(&space), 3);
    check_eq!(user::store(middle, 9), Err(FaultError::Protection));
    check_eq!(user::load(middle)?, 2);
    space.protect(middle, 1, Prot::NONE)?;
    check_eq!(user::load(middle), Err(FaultError::Protection));
    space.protect(middle, 1, Prot::RW)?;
    check_eq!(areas(&space), 1);
    user::store(middle, 9)?;
    check_eq!(user::load(middle)?, 9);
    Ok(())
}

fn mremap_grows_shrinks_and_moves(_: &mut TestCtx<'_>) -> Outcome {
    without_leak(|| {
        let space = mapped(4)?;
        let _adopted = space.enter();
        for i in 0..4 {
            user::store(at(BASE, i), i as u64 + 1)?;
        }
        check_eq!(space.resize(BASE, 4, 8)?, BASE);
        check_eq!(user::load(at(BASE, 7))?, 0);
        check_eq!(space.resize(BASE, 8, 2)?, BASE);
        check_eq!(user::load(at(BASE, 2)), Err(FaultError::Unmapped));
        // Something is in the way: growing must move.
        space.map(at(BASE, 2), 1, Prot::READ)?;
        let moved = space.resize(BASE, 2, 600)?;
        check!(moved != BASE, "grew over another area");
        check_eq!(user::load(BASE), Err(FaultError::Unmapped));
        check_eq!((user::load(moved)?, user::load(at(moved, 1))?), (1, 2));
        let far = FAR;
        space.move_to(moved, 600, far)?;
        check_eq!(
            (
                user::load(far)?,
                user::load(at(far, 1))?,
                user::load(at(far, 599))?
            ),
            (1, 2, 0)
        );
        check_eq!(user::load(moved), Err(FaultError::Unmapped));
        Ok(())
    })
}

fn bad_arguments_are_refused(_: &mut TestCtx<'_>) -> Outcome {
    let space = mapped(4)?;
    let odd = VirtAddr(BASE.0 + 1);
    check_eq!(space.map(odd, 1, Prot::RW).err(), Some(MmError::Invalid));
    check_eq!(space.map(BASE, 0, Prot::RW).err(), Some(MmError::Invalid));
    check_eq!(space.unmap(odd, 1).err(), Some(MmError::Invalid));
    check_eq!(
        space.protect(odd, 1, Prot::READ).err(),
        Some(MmError::Invalid)
    );
    check_eq!(
        space.advise(odd, 1, Advice::DontNeed).err(),
        Some(MmError::Invalid)
    );
    let top = VirtAddr(arch::USER_TOP - arch::PAGE_SIZE);
    check!(
        space.map(top, 2, Prot::RW).is_err(),
        "mapped beyond the user half"
    );
    check!(
        space.map(VirtAddr(0), 1, Prot::RW).is_err(),
        "mapped the null page"
    );
    // Overlapping source and target.
    check_eq!(
        space.move_to(BASE, 2, at(BASE, 1)).err(),
        Some(MmError::Invalid)
    );
    Ok(())
}

fn unmapped_ranges_are_refused(_: &mut TestCtx<'_>) -> Outcome {
    let space = mapped(4)?;
    let beyond = at(BASE, 4);
    check_eq!(
        space.protect(beyond, 1, Prot::READ).err(),
        Some(MmError::NotMapped)
    );
    check_eq!(
        space.protect(at(BASE, 3), 2, Prot::READ).err(),
        Some(MmError::NotMapped)
    );
    check_eq!(
        space.advise(beyond, 1, Advice::DontNeed).err(),
        Some(MmError::NotMapped)
    );
    check_eq!(
        space.move_to(beyond, 1, at(BASE, 64)).err(),
        Some(MmError::Fault)
    );
    // munmap of nothing is no error.
    space.unmap(beyond, 16)?;
    Ok(())
}

/// One space cannot take the records from all others. What would need one more is refused and
/// changes nothing; what needs none goes on. (On the simulator only: it is the same code, and
/// faster.)
#[cfg(not(target_os = "none"))]
fn one_space_has_no_more_areas_than_it_may(_: &mut TestCtx<'_>) -> Outcome {
    const MOST: usize = mm::vma::set::MAX_AREAS;
    without_leak(|| {
        let space = mapped(4)?;
        // Every other page: no two join.
        for i in 1..MOST {
            space.map(at(BASE, 3 + 2 * i), 1, Prot::RW)?;
        }
        check_eq!(areas(&space), MOST);
        let beyond = at(BASE, 3 + 2 * MOST);
        check_eq!(space.map(beyond, 1, Prot::RW), Err(MmError::TooMany));
        check_eq!(space.unmap(at(BASE, 1), 1), Err(MmError::TooMany));
        check_eq!(
            space.protect(at(BASE, 1), 1, Prot::READ),
            Err(MmError::TooMany)
        );
        check_eq!(areas(&space), MOST);
        // An area that another takes in, and one that goes whole.
        space.map(at(BASE, 4), 1, Prot::RW)?;
        check_eq!(areas(&space), MOST);
        space.unmap(at(BASE, 5), 1)?;
        let child = space.fork()?;
        check_eq!(areas(&child), MOST - 1);
        space.unmap(at(BASE, 1), 1)?;
        check_eq!(space.map(beyond, 1, Prot::RW), Err(MmError::TooMany));
        let other = mapped(1)?;
        check_eq!(areas(&other), 1);
        Ok(())
    })
}
