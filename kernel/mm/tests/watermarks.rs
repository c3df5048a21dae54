//! Watermarks: what lies below `min` is reclaim's own, and an allocation below `low` wakes kswapd.

use arch::simctl::{self, Config};
use arch::{PAGE_SIZE, VirtAddr, user};
use mm::buddy::{self, Gfp, Oom, Page};
use mm::stats::{Event, Use, total};
use mm::{MapFlags, MmRef, Prot, reclaim, swap};
use std::sync::{Mutex, PoisonError};

const BASE: VirtAddr = VirtAddr(0x4000_0000);
const RAM: u64 = 16 << 20;
/// Pages in use that can go to swap: an eighth of memory.
const IN_USE: u64 = RAM / PAGE_SIZE / 8;

fn on_machine(f: impl FnOnce() + Send + 'static) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let config = Config {
        ram: RAM,
        swap: 2 * IN_USE * PAGE_SIZE,
        ..Config::default()
    };
    let first = simctl::boot(config);
    simctl::run(move || {
        if first {
            mm::init().expect("16 MiB are enough");
            let disk = arch::swap_disk().expect("the machine has a disk");
            swap::mkswap(disk, "test", &[]).expect("mkswap");
            swap::swapon(disk).expect("swapon");
            reclaim::kswapd::start().expect("there are threads");
        }
        f();
        mm::check().expect("accounting");
        assert!(simctl::take_violations().is_empty());
    });
}

fn take(gfp: Gfp) -> Result<Page, Oom> {
    buddy::alloc(0, Use::Misc, gfp)
}

#[test]
fn the_last_frames_are_reclaims_own() {
    on_machine(|| {
        let mut taken: Vec<Page> = std::iter::from_fn(|| take(Gfp::NOWAIT).ok()).collect();
        let (min, _, _) = buddy::watermarks();
        assert!(min > 0);
        // A refused request has emptied the lists of CPUs: every free frame is in the zone.
        assert!(
            buddy::free_pages() >= min,
            "an ordinary request took frames below {min}: {} are left",
            buddy::free_pages()
        );
        for n in 0..min {
            let page = take(Gfp::MEMALLOC);
            taken.push(page.unwrap_or_else(|Oom| panic!("reclaim gets {n} of {min} frames")));
        }
    });
}

#[test]
fn an_allocation_below_low_wakes_kswapd() {
    on_machine(|| {
        let mm = MmRef::new().expect("memory for an address space");
        mm.mmap(Some(BASE), IN_USE * PAGE_SIZE, Prot::RW, MapFlags::FIXED)
            .expect("mmap");
        let inside = mm.adopt();
        for i in 0..IN_USE {
            user::store(VirtAddr(BASE.0 + i * PAGE_SIZE), i).expect("there is memory");
        }
        let freed = total(Event::PgStealKswapd);
        let direct = total(Event::PgStealDirect);
        // None of these requests reclaims anything itself.
        let taken: Vec<Page> = std::iter::from_fn(|| take(Gfp::NOWAIT).ok()).collect();
        for _ in 0..60_000 {
            if total(Event::PgStealKswapd) > freed {
                break;
            }
            arch::thread::sleep_ns(1_000_000);
        }
        assert!(
            total(Event::PgStealKswapd) > freed,
            "kswapd sleeps while memory is short"
        );
        assert_eq!(total(Event::PgStealDirect), direct);
        drop(taken);
        for i in 0..IN_USE {
            assert_eq!(user::load(VirtAddr(BASE.0 + i * PAGE_SIZE)), Ok(i));
        }
        drop(inside);
        drop(mm);
        reclaim::settle();
    });
}
