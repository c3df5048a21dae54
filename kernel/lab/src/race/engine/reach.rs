//! For the coverage report (`.ci/coverage`): whose step it is that reaches something, and whether
//! others are under way meanwhile. Nothing without `--cfg reach`.
//!
//! What an actor reaches in a run counts if another actor had begun before it and ends after it:
//! then two were under way at each of its steps. (In another run it is the other way round.) Steps
//! of disks and deliveries count while two actors have begun and not ended. A run that is being
//! brought to its end counts nothing.

#[cfg(reach)]
mod books {
    use arch::actor::MAX_ACTORS;
    use arch::reach::{self, BOOKS};

    /// The book of disks and deliveries.
    const DEVICES: usize = MAX_ACTORS;

    /// What there is of a run.
    struct Run {
        /// Actors that have begun, in this order.
        begun: [usize; MAX_ACTORS],
        n: usize,
        ended: [bool; MAX_ACTORS],
        /// Devices have counted.
        devices: bool,
    }

    impl Run {
        const NEW: Self = Self {
            begun: [0; MAX_ACTORS],
            n: 0,
            ended: [false; MAX_ACTORS],
            devices: false,
        };

        fn begun(&self) -> &[usize] {
            &self.begun[..self.n]
        }

        /// One that began before actor `n` has not ended.
        fn is_inside(&self, n: usize) -> bool {
            let earlier = self.begun().iter().take_while(|i| **i != n);
            earlier.into_iter().any(|i| !self.ended[*i])
        }

        fn under_way(&self) -> usize {
            self.begun().iter().filter(|i| !self.ended[**i]).count()
        }
    }

    static RUN: spin::Mutex<Run> = spin::Mutex::new(Run::NEW);

    /// A step that is under way.
    pub(crate) struct Step(Option<usize>);

    /// A run begins.
    pub(crate) fn start() {
        reach::open(BOOKS);
        let before = core::mem::replace(&mut *RUN.lock(), Run::NEW);
        before.begun().iter().for_each(|n| reach::tear(*n));
        if before.devices {
            reach::add(DEVICES);
        }
    }

    /// The engine's number `n` takes a step.
    pub(crate) fn step(n: usize, ending: bool) -> Step {
        let mut run = RUN.lock();
        if ending {
            return Step(None);
        }
        if n >= MAX_ACTORS {
            if run.under_way() >= 2 {
                run.devices = true;
                reach::open(DEVICES);
            }
            return Step(None);
        }
        if !run.begun().contains(&n) {
            let last = run.n;
            run.begun[last] = n;
            run.n += 1;
        }
        reach::open(n);
        Step(Some(n))
    }

    impl Step {
        /// It is over, and so is what the actor does, if it has `ended`.
        pub(crate) fn over(self, ended: bool) {
            reach::open(BOOKS);
            let Some(n) = self.0.filter(|_| ended) else {
                return;
            };
            let mut run = RUN.lock();
            run.ended[n] = true;
            if run.is_inside(n) {
                reach::add(n);
            }
        }
    }
}

#[cfg(not(reach))]
mod books {
    /// A step that is under way.
    pub(crate) struct Step;

    pub(crate) const fn start() {}

    pub(crate) const fn step(_: usize, _: bool) -> Step {
        Step
    }

    impl Step {
        pub(crate) const fn over(self, _: bool) {}
    }
}

pub(super) use books::{start, step};
