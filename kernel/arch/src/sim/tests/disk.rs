//! The RAM disk: data, errors, queue.

use super::*;

fn bio(op: Op, sector: u64, frames: &[Pfn]) -> &'static Bio {
    let bio: &'static Bio = Box::leak(Box::new(Bio::new()));
    bio.prepare(op, sector, frames);
    bio
}

fn io(op: Op, sector: u64, frames: &[Pfn]) -> Result<(), IoError> {
    let bio = bio(op, sector, frames);
    swap_disk().unwrap().submit(bio).unwrap();
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
            disk.submit(b).unwrap();
        }
        // One more fits, and overtakes.
        assert_eq!(io(Op::Read, 8, &[f]), Ok(()));
        let last = bio(Op::Read, 0, &[f]);
        disk.submit(last).unwrap();
        let refused = bio(Op::Read, 8, &[f]);
        assert_eq!(disk.submit(refused), Err(Busy));
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
