//! RAM, the walk, A and D bits, what the TLB keeps.

use super::*;

#[test]
fn memory_map_is_sorted_and_covers_ram() {
    machine_on();
    let map = memory_map();
    assert!(map.windows(2).all(|w| w[0].end.0 <= w[1].start.0));
    assert!(
        map.iter()
            .all(|r| r.start.0 % PAGE_SIZE == 0 && r.start.0 < r.end.0)
    );
    assert_eq!(map.last().unwrap().end.0, simctl::config().ram);
    assert!(ram_bytes() < simctl::config().ram);
    let used = |i| Entry(pt_cell(kernel_root(), i).load(Relaxed)).is_present();
    assert!((256..512).any(used) && !(0..256).any(used));
}

#[test]
fn frames_fill_copy_and_start_zeroed() {
    machine_on();
    let (a, b) = (frame(), frame());
    assert!(frame_words(a).iter().all(|w| w.load(Relaxed) == 0));
    fill_frame(a, 7);
    copy_frame(b, a);
    zero_frame(a);
    assert_eq!(frame_words(b)[511].load(Relaxed), 7);
    assert_eq!(frame_words(a)[0].load(Relaxed), 0);
    assert_eq!(
        frame_ptr(b) as usize - frame_ptr(a) as usize,
        PAGE_SIZE as usize
    );
    assert!((frame_ptr(a) as usize).is_multiple_of(PAGE_SIZE as usize));
}

#[test]
#[should_panic(expected = "is not RAM")]
fn frames_outside_of_ram_panic() {
    machine_on();
    frame_words(Pfn(0x10_0000));
}

#[test]
fn accesses_of_all_sizes_reach_the_frame() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(user::load8(VirtAddr(VA.0 + 1)), Ok(0x77));
        user::store8(VirtAddr(VA.0 + 7), 0xab).unwrap();
        assert_eq!(user::load(VA), Ok(0xab22_3344_5566_7788));
        assert_eq!(user::fetch_add(VA, 8), Ok(0xab22_3344_5566_7788));
        assert_eq!(user::compare_exchange(VA, 1, 2), Ok(0xab22_3344_5566_7790));
        assert_eq!(
            user::compare_exchange(VA, 0xab22_3344_5566_7790, 2),
            Ok(0xab22_3344_5566_7790)
        );
        assert_eq!(frame_words(f)[0].load(Relaxed), 2);
        assert_eq!(user::load(va(1)), Err(FaultError::Unmapped));
        assert_eq!(
            user::load(crate::VirtAddr(crate::USER_TOP)),
            Err(FaultError::Unmapped)
        );
    });
}

#[test]
fn accessed_and_dirty_are_set_as_hardware_does() {
    alone(|| {
        let s = Space::new();
        s.map(0, frame(), RW);
        s.map(1, frame(), USER);
        s.load();
        let bits = |page| s.cell(page).load(SeqCst) & (ACCESSED | DIRTY);
        assert_eq!(user::load(VA), Ok(0));
        assert_eq!(bits(0), ACCESSED);
        user::store(VA, 1).unwrap();
        assert_eq!(bits(0), ACCESSED | DIRTY);
        // A write that is not allowed leaves no trace.
        assert!(!user::store_nofault(va(1), 1));
        assert_eq!(bits(1), 0);
        assert_eq!(user::load_nofault(va(1)), Some(0));
        assert_eq!(bits(1), ACCESSED);
        // The tables on the way were used, and never become dirty.
        let pmd = pt_cell(s.pmd, VA.table_index(1)).load(SeqCst);
        assert_eq!(pmd & (ACCESSED | DIRTY), ACCESSED);
        assert_eq!(
            pt_cell(s.root, VA.table_index(3)).load(SeqCst) & ACCESSED,
            ACCESSED
        );
    });
}

#[test]
fn cached_translations_write_without_walking_until_flushed() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        s.map(0, f, RW);
        s.load();
        user::store(VA, 1).unwrap();
        // Writable and dirty in the TLB: clearing D, or the entry, goes unnoticed.
        s.cell(0).fetch_and(!DIRTY, SeqCst);
        user::store(VA, 2).unwrap();
        assert_eq!(s.cell(0).load(SeqCst) & DIRTY, 0);
        s.cell(0).store(0, SeqCst);
        user::store(VA, 3).unwrap();
        assert_eq!(frame_words(f)[0].load(Relaxed), 3);
        invlpg(va(1));
        assert_eq!(user::load_nofault(VA), Some(3));
        invlpg(VA);
        assert_eq!(user::load_nofault(VA), None);
    });
}

#[test]
fn a_clean_translation_walks_again_at_the_first_write() {
    alone(|| {
        let s = Space::new();
        s.map(0, frame(), RW);
        s.load();
        assert_eq!(user::load(VA), Ok(0));
        // Cached clean: the write must see that the entry is gone, though a read does not.
        s.cell(0).store(0, SeqCst);
        assert_eq!(user::load_nofault(VA), Some(0));
        assert!(!user::store_nofault(VA, 1));
        // And a permission upgrade needs no flush.
        s.map(1, frame(), USER);
        assert_eq!(user::load(va(1)), Ok(0));
        s.cell(1).fetch_or(WRITE, SeqCst);
        assert!(user::store_nofault(va(1), 5));
    });
}

#[test]
fn root_load_and_flush_forget_everything() {
    alone(|| {
        let (s, t) = (Space::new(), Space::new());
        s.map(0, frame(), RW);
        t.map(0, frame(), RW);
        s.load();
        user::store(VA, 1).unwrap();
        t.load();
        assert_eq!(current_root(), t.root);
        assert_eq!(user::load(VA), Ok(0));
        t.cell(0).store(0, SeqCst);
        flush_local();
        assert_eq!(user::load_nofault(VA), None);
    });
}

#[test]
fn huge_pages_translate_in_pieces_and_go_together() {
    alone(|| {
        let s = Space::new();
        // A huge page of RAM at 32 MiB.
        let base = Pfn(0x2000);
        let last = entries(0) as u64 - 1;
        let cell = pt_cell(s.pmd, VA.table_index(1));
        cell.store(Entry::new(base, RW | HUGE).0, SeqCst);
        s.load();
        user::store(va(3), 33).unwrap();
        user::store(va(last), 34).unwrap();
        assert_eq!(frame_words(base.add(3))[0].load(Relaxed), 33);
        assert_eq!(cell.load(SeqCst) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
        // The table that took its place is seen only where nothing was cached, until an INVLPG of
        // any page.
        s.map(3, frame(), RW);
        s.map(4, frame(), RW);
        cell.store(Entry::new(s.pte, RW).0, SeqCst);
        assert_eq!(user::load_nofault(va(3)), Some(33));
        assert_eq!(user::load_nofault(va(4)), Some(0));
        invlpg(va(7));
        assert_eq!(user::load_nofault(va(3)), Some(0));
        assert_eq!(user::load_nofault(va(last)), None);
        assert_eq!(VA.0 % PMD_SIZE, 0);
    });
}

#[test]
fn cached_tables_are_walked_until_any_invlpg() {
    alone(|| {
        let s = Space::new();
        s.map(0, frame(), RW);
        s.load();
        assert_eq!(user::load(VA), Ok(0));
        // The PTE table is unhooked, but this CPU still knows it.
        pt_cell(s.pmd, VA.table_index(1)).store(0, SeqCst);
        s.map(1, frame(), RW);
        assert_eq!(user::load_nofault(va(1)), Some(0));
        s.map(2, frame(), RW);
        invlpg(va(9));
        assert_eq!(user::load_nofault(va(2)), None);
    });
}

#[test]
fn faults_are_resolved_and_retried_or_reported() {
    alone(|| {
        let s = Space::new();
        let f = frame();
        *RESOLVE.lock().unwrap() = Some(Arc::new(move |at, access| {
            assert!(irq::enabled());
            match (at.page().0, access) {
                (p, Access::Write) if p == VA.0 => s.map(0, f, RW),
                (p, _) if p == va(1).0 => return Err(FaultError::Bus),
                _ => return Err(FaultError::Unmapped),
            }
            Ok(())
        }));
        s.load();
        assert_eq!(user::store(VirtAddr(VA.0 + 8), 9), Ok(()));
        assert_eq!(frame_words(f)[1].load(Relaxed), 9);
        assert_eq!(user::load(va(1)), Err(FaultError::Bus));
        assert_eq!(user::load(va(2)), Err(FaultError::Unmapped));
    });
}

#[test]
fn dirty_bits_survive_concurrent_clearing() {
    // Clearing the whole entry atomically either sees the write's dirty bit or makes the write
    // fault.
    alone(|| {
        let s = Space::new();
        let f = frame();
        let stop = Arc::new(AtomicBool::new(false));
        let stores = Arc::new(AtomicUsize::new(0));
        let writer = {
            let (stop, stores) = (stop.clone(), stores.clone());
            thread(move || {
                s.load();
                while !stop.load(Relaxed) {
                    if user::store_nofault(VA, 1) {
                        stores.fetch_add(1, SeqCst);
                    }
                    flush_local();
                }
            })
        };
        let on = CpuMask::single(writer.task().index());
        for _ in 0..2000 {
            frame_words(f)[0].store(0, SeqCst);
            s.map(0, f, RW);
            std::thread::yield_now();
            let old = s.cell(0).swap(0, SeqCst);
            if old & DIRTY == 0 {
                assert_eq!(
                    frame_words(f)[0].load(SeqCst),
                    0,
                    "a write without a dirty bit"
                );
            } else {
                // The store itself may still be under way: it belongs to a walk that has succeeded.
                let before = stores.load(SeqCst);
                until(|| frame_words(f)[0].load(SeqCst) == 1 || stores.load(SeqCst) != before);
            }
            // No store may reach the frame in the next round through this round's walk.
            call_on(on, |_| flush_local(), 0);
        }
        stop.store(true, Relaxed);
        writer.join();
    });
}

#[test]
fn kernel_heap_window_takes_frames_and_tables() {
    machine_on();
    let (base, len) = heap_window();
    assert!(base.0.is_multiple_of(PAGE_SIZE) && len > PMD_SIZE);
    let tables = AtomicU32::new(0);
    let mut none = || None;
    assert_eq!(map_kernel_page(base, Pfn(1), &mut none), Err(NoMemory));
    let mut table = || {
        tables.fetch_add(1, Relaxed);
        Some(frame())
    };
    assert_eq!(map_kernel_page(base, Pfn(1), &mut table), Ok(()));
    let next = VirtAddr(base.0 + PAGE_SIZE);
    assert_eq!(map_kernel_page(next, Pfn(2), &mut table), Ok(()));
    assert_eq!(tables.load(Relaxed), 1);
}
