//! Waiting for a counter of the hardware that counts down and wraps (the PIT's), which may not be
//! there at all. No locks, no allocation.

/// Reads in a row that find the same count before the counter is held to stand still. The PIT
/// counts in less than a microsecond, about as long as a read of it takes.
const STILL_READS: u32 = 100_000;

/// The counter does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stopped;

/// Waits until `read` gives a count that is at least `ticks` below `first`. What ends the wait
/// otherwise is that nothing moves, and not time: there is no clock yet, and a machine that is
/// stopped and continued loses time.
///
/// # Errors
/// [`Stopped`] when the counter stands still.
pub(crate) fn wait_ticks(
    first: u16,
    ticks: u16,
    mut read: impl FnMut() -> u16,
) -> Result<(), Stopped> {
    let (mut last, mut still) = (first, 0);
    loop {
        let now = read();
        if first.wrapping_sub(now) >= ticks {
            return Ok(());
        }
        still = if now == last { still + 1 } else { 0 };
        if still >= STILL_READS {
            return Err(Stopped);
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that starts at `first` and goes down once in `slow` reads.
    fn counter(first: u16, slow: u32) -> impl FnMut() -> u16 {
        let mut reads = 0u32;
        move || {
            reads += 1;
            first.wrapping_sub((reads / slow) as u16)
        }
    }

    #[test]
    fn a_counter_that_counts_is_waited_for_also_where_it_wraps() {
        for (first, slow) in [(60_000, 1), (100, 1), (0, 3), (u16::MAX, 2)] {
            let mut read = counter(first, slow);
            assert_eq!(wait_ticks(first, 23_863, &mut read), Ok(()));
            assert!(first.wrapping_sub(read()) >= 23_863);
        }
    }

    #[test]
    fn a_slow_counter_is_waited_for() {
        let mut read = counter(50, STILL_READS - 1);
        assert_eq!(wait_ticks(50, 100, &mut read), Ok(()));
    }

    #[test]
    fn a_counter_that_stands_still_ends_the_wait() {
        assert_eq!(wait_ticks(u16::MAX, 23_863, || u16::MAX), Err(Stopped));
        assert_eq!(wait_ticks(7, 1, || 7), Err(Stopped));
        // One that stops on the way.
        let mut count = 1000;
        let mut read = || {
            count = (count - 1).max(800);
            count
        };
        assert_eq!(wait_ticks(1000, 500, &mut read), Err(Stopped));
    }
}
