//! The RAM disks: data, errors, queue, power cuts.

use super::*;

fn bio(op: Op, sector: u64, frames: &[Pfn]) -> &'static Bio {
    let bio: &'static Bio = Box::leak(Box::new(Bio::new()));
    bio.prepare(op, sector, frames);
    bio
}

fn io(op: Op, sector: u64, frames: &[Pfn]) -> Result<(), IoError> {
    io_to(swap_disk().unwrap(), op, sector, frames)
}

fn io_to(disk: &dyn BlockDevice, op: Op, sector: u64, frames: &[Pfn]) -> Result<(), IoError> {
    let bio = bio(op, sector, frames);
    submit(disk, bio).unwrap();
    IO.wait_until(|| bio.result().is_some());
    bio.result().unwrap()
}

#[test]
fn disk_keeps_what_was_written() {
    alone(|| {
        let (a, b) = (frame(), frame());
        fill_frame(a, 11);
        fill_frame(b, 22);
        assert_eq!(io(Op::Write, 64, &[a, b]), Ok(()));
        assert_eq!(io(Op::Flush, 0, &[]), Ok(()));
        assert_eq!(simctl::swap_disk().word(64 + 8, 0), 22);
        zero_frame(a);
        assert_eq!(io(Op::Read, 72, &[a]), Ok(()));
        assert_eq!(frame_words(a)[511].load(Relaxed), 22);
        let end = swap_disk().unwrap().sectors();
        assert_eq!(io(Op::Read, end - 8, &[a, b]), Err(IoError));
    });
}

#[test]
fn disk_errors_hit_their_sectors_and_operation_only() {
    alone(|| {
        let f = frame();
        fill_frame(f, 1);
        let fault = |once| DiskFault {
            op: Op::Write,
            sectors: 100..101,
            kind: FaultKind::Error,
            once,
        };
        simctl::swap_disk().inject(fault(true));
        assert_eq!(io(Op::Write, 104, &[f]), Ok(()));
        assert_eq!(io(Op::Read, 96, &[f]), Ok(()));
        fill_frame(f, 5);
        assert_eq!(io(Op::Write, 96, &[f]), Err(IoError));
        assert_ne!(simctl::swap_disk().word(96, 0), 5);
        assert_eq!(io(Op::Write, 96, &[f]), Ok(()));
        simctl::swap_disk().inject(fault(false));
        assert_eq!(io(Op::Write, 96, &[f]), Err(IoError));
        assert_eq!(io(Op::Write, 96, &[f]), Err(IoError));
        simctl::swap_disk().clear_faults();
        assert_eq!(io(Op::Write, 96, &[f]), Ok(()));
    });
}

#[test]
fn disk_takes_sixteen_requests_and_completes_out_of_order() {
    alone(|| {
        let f = frame();
        simctl::swap_disk().inject(DiskFault {
            op: Op::Read,
            sectors: 0..8,
            kind: FaultKind::Hang,
            once: false,
        });
        let disk = swap_disk().unwrap();
        let before = disk.completed();
        let hung: Vec<_> = (0..15).map(|_| bio(Op::Read, 0, &[f])).collect();
        for b in &hung {
            submit(disk, b).unwrap();
        }
        // One more fits, and overtakes.
        assert_eq!(io(Op::Read, 8, &[f]), Ok(()));
        let last = bio(Op::Read, 0, &[f]);
        submit(disk, last).unwrap();
        let refused = bio(Op::Read, 8, &[f]);
        assert_eq!(submit(disk, refused), Err(Busy));
        assert!(hung.iter().all(|b| b.result().is_none()));
        simctl::swap_disk().clear_faults();
        IO.wait_until(|| {
            hung.iter()
                .chain([&last])
                .all(|b| b.result() == Some(Ok(())))
        });
        assert_eq!(disk.completed(), before + 17);
    });
}

#[test]
fn the_two_disks_are_two() {
    alone(|| {
        let data = data_disk().unwrap();
        let f = frame();
        fill_frame(f, 7);
        assert_eq!(io(Op::Write, 200, &[f]), Ok(()));
        fill_frame(f, 9);
        assert_eq!(io_to(data, Op::Write, 200, &[f]), Ok(()));
        assert_eq!(simctl::swap_disk().word(200, 0), 7);
        assert_eq!(simctl::data_disk().word(200, 0), 9);
        simctl::data_disk().inject(DiskFault {
            op: Op::Read,
            sectors: 200..201,
            kind: FaultKind::Error,
            once: true,
        });
        assert_eq!(io(Op::Read, 200, &[f]), Ok(()));
        assert_eq!(io_to(data, Op::Read, 200, &[f]), Err(IoError));
    });
}

/// Sectors 400 to 407 flushed with 1; then 400 to 415 written with 2, the flush having failed if
/// `fails`.
fn written_and_cut(seed: u64, fails: bool) -> Vec<u64> {
    let data = data_disk().unwrap();
    let (a, b) = (frame(), frame());
    let flush = || io_to(data, Op::Flush, 0, &[]);
    zero_frame(a);
    zero_frame(b);
    assert_eq!(io_to(data, Op::Write, 400, &[a, b]), Ok(()));
    fill_frame(a, 1);
    assert_eq!(io_to(data, Op::Write, 400, &[a]), Ok(()));
    assert_eq!(flush(), Ok(()));
    fill_frame(a, 2);
    fill_frame(b, 2);
    assert_eq!(io_to(data, Op::Write, 400, &[a, b]), Ok(()));
    if fails {
        simctl::data_disk().inject(DiskFault {
            op: Op::Flush,
            sectors: 0..0,
            kind: FaultKind::Error,
            once: true,
        });
        assert_eq!(flush(), Err(IoError));
    }
    simctl::power_cut(seed);
    let sector = |s| {
        let first = simctl::data_disk().word(s, 0);
        assert!((1..64).all(|i| simctl::data_disk().word(s, i) == first));
        first
    };
    (400..416).map(sector).collect()
}

#[test]
fn a_power_cut_loses_only_what_was_not_flushed() {
    alone(|| {
        let (mut none, mut some, mut all) = (0, 0, 0);
        for seed in 0..64 {
            let found = written_and_cut(seed, seed % 2 == 0);
            assert!(found[..8].iter().all(|&w| w == 1 || w == 2), "{found:?}");
            assert!(found[8..].iter().all(|&w| w == 0 || w == 2), "{found:?}");
            match found.iter().filter(|&&w| w != 2).count() {
                0 => none += 1,
                16 => all += 1,
                _ => some += 1,
            }
            assert_eq!(found, written_and_cut(seed, false), "a seed repeats");
        }
        assert!(none > 0 && some > 0 && all > 0, "{none} {some} {all}");
        // What survived one cut survives the next.
        let data = data_disk().unwrap();
        let f = frame();
        fill_frame(f, 3);
        assert_eq!(io_to(data, Op::Write, 400, &[f]), Ok(()));
        assert_eq!(io_to(data, Op::Flush, 0, &[]), Ok(()));
        (0..64).for_each(simctl::power_cut);
        assert_eq!(simctl::data_disk().word(407, 63), 3);
    });
}
