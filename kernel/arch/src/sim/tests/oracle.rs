//! The oracle for freed frames.

use super::*;

#[test]
fn a_frame_freed_while_cached_is_reported_and_its_use_too() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 1).unwrap();
        let me = cpu::id();
        assert_eq!(simctl::stale_translations(f), [(me, VA)]);
        let before = simctl::generation(f);
        frame_freed(f);
        assert_eq!(simctl::generation(f), before + 1);
        user::store(VA, 2).unwrap();
        assert_eq!(
            simctl::take_violations(),
            [
                Violation::FreedWhileCached {
                    pfn: f,
                    cpu: me,
                    va: VA
                },
                Violation::UsedAfterFree {
                    pfn: f,
                    cpu: me,
                    va: VA
                },
            ]
        );
    });
}

#[test]
fn a_lazy_cpu_may_keep_stale_translations_but_not_use_them() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 1).unwrap();
        adopt(0);
        frame_freed(f);
        assert_eq!(user::store(VA, 2), Err(FaultError::Unmapped));
        assert_eq!(
            (user::load_nofault(VA), user::store_nofault(VA, 2)),
            (None, false)
        );
        assert_eq!(simctl::take_violations(), []);
        adopt(1);
        user::store(VA, 2).unwrap();
        let (cpu, pfn) = (cpu::id(), f);
        let used = Violation::UsedAfterFree { pfn, cpu, va: VA };
        assert_eq!(simctl::take_violations(), [used]);
    });
}

#[test]
fn the_right_order_leaves_no_violation() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 1).unwrap();
        s.cell(0).store(0, SeqCst);
        invlpg(VA);
        frame_freed(f);
        assert_eq!(simctl::take_violations(), []);
    });
}

#[test]
fn a_table_freed_while_a_cpu_may_walk_it_is_reported() {
    alone(|| {
        let s = Space::new();
        s.map(0, frame(), RW);
        s.load();
        user::store(VA, 1).unwrap();
        let me = cpu::id();
        pt_cell(s.pmd, VA.table_index(1)).store(0, SeqCst);
        frame_freed(s.pte);
        assert!(user::load_nofault(va(1)).is_none());
        frame_freed(s.root);
        assert_eq!(
            simctl::take_violations(),
            [
                Violation::TableFreedWhileCached {
                    pfn: s.pte,
                    cpu: me
                },
                Violation::WalkedAfterFree {
                    pfn: s.pte,
                    va: va(1)
                },
                Violation::TableFreedWhileCached {
                    pfn: s.root,
                    cpu: me
                },
            ]
        );
    });
}
