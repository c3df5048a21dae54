//! The requests of a disk: those it works on, how far each is, and those that wait.
//!
//! Pure: no lock, never sleeps; allocates when a queue that was not prepared grows.

use alloc::collections::VecDeque;

/// Requests that a disk works on at a time, at most.
pub(in crate::race) const PLACES: usize = 2;

/// What a request does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Moves a part of its data.
    Move {
        /// Which, from 0.
        part: u8,
        /// Of how many.
        parts: u8,
    },
    /// Ends.
    End,
}

struct Request<T> {
    what: T,
    moved: u8,
    parts: u8,
}

impl<T> Request<T> {
    fn next(&self) -> Next {
        if self.moved < self.parts {
            let (part, parts) = (self.moved, self.parts);
            Next::Move { part, parts }
        } else {
            Next::End
        }
    }
}

/// See the module text.
pub(super) struct Places<T> {
    /// How many of the places there are now.
    open: usize,
    busy: [Option<Request<T>>; PLACES],
    waiting: VecDeque<Request<T>>,
}

impl<T: Copy> Places<T> {
    /// Nothing to do; one place.
    pub(super) const fn new() -> Self {
        Self {
            open: 1,
            busy: [const { None }; PLACES],
            waiting: VecDeque::new(),
        }
    }

    /// Room for `n` requests that wait.
    pub(super) fn reserve(&mut self, n: usize) {
        self.waiting.reserve(n);
    }

    /// Forgets all requests; there are `open` places from now on.
    pub(super) fn clear(&mut self, open: usize) {
        self.open = open.clamp(1, PLACES);
        self.busy = [const { None }; PLACES];
        self.waiting.clear();
    }

    /// Requests that have not ended.
    pub(super) fn len(&self) -> usize {
        self.busy.iter().flatten().count() + self.waiting.len()
    }

    /// A request whose data is moved in `parts` parts: the place it got, or `None` when it waits.
    pub(super) fn put(&mut self, what: T, parts: u8) -> Option<usize> {
        let request = Request {
            what,
            moved: 0,
            parts,
        };
        match self.busy[..self.open].iter().position(Option::is_none) {
            Some(place) => {
                self.busy[place] = Some(request);
                Some(place)
            }
            None => {
                self.waiting.push_back(request);
                None
            }
        }
    }

    /// The request at a place, and what it does next.
    pub(super) fn at(&self, place: usize) -> Option<(T, Next)> {
        let request = self.busy[place].as_ref()?;
        Some((request.what, request.next()))
    }

    /// The next part of the request at a place was moved.
    pub(super) fn moved(&mut self, place: usize) {
        if let Some(request) = &mut self.busy[place] {
            request.moved += 1;
        }
    }

    /// The request at a place is over; one that waits comes there.
    pub(super) fn take(&mut self, place: usize) -> Option<T> {
        let over = self.busy[place].take()?;
        self.busy[place] = self.waiting.pop_front();
        Some(over.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(p: &mut Places<u32>, place: usize) -> Option<u32> {
        while let Some((_, Next::Move { .. })) = p.at(place) {
            p.moved(place);
        }
        p.take(place)
    }

    #[test]
    fn one_place_serves_in_the_order_of_coming() {
        let mut p = Places::new();
        assert_eq!(p.at(0), None);
        assert_eq!((p.put(7, 1), p.put(8, 1), p.len()), (Some(0), None, 2));
        assert_eq!(p.at(0), Some((7, Next::Move { part: 0, parts: 1 })));
        assert_eq!(p.at(1), None, "there is no such place");
        p.moved(0);
        assert_eq!(p.at(0), Some((7, Next::End)));
        assert_eq!((p.take(0), end(&mut p, 0)), (Some(7), Some(8)));
        assert_eq!((p.take(0), p.len()), (None, 0));
    }

    #[test]
    fn a_request_overtakes_another_and_a_third_gets_its_place() {
        let mut p = Places::new();
        p.clear(PLACES);
        let got = [1, 2, 3].map(|what| p.put(what, 1));
        assert_eq!(got, [Some(0), Some(1), None]);
        assert_eq!((end(&mut p, 1), end(&mut p, 1)), (Some(2), Some(3)));
        assert_eq!((end(&mut p, 0), p.len()), (Some(1), 0));
    }

    #[test]
    fn a_request_moves_its_parts_one_after_the_other() {
        let mut p = Places::new();
        p.put(7, 2);
        for part in 0..2 {
            assert_eq!(p.at(0), Some((7, Next::Move { part, parts: 2 })));
            p.moved(0);
        }
        assert_eq!(p.at(0), Some((7, Next::End)));
        // It may be over before: then it has failed.
        p.clear(1);
        p.put(8, 2);
        p.moved(0);
        assert_eq!((p.take(0), p.at(0)), (Some(8), None));
    }

    #[test]
    fn what_a_run_left_behind_is_forgotten() {
        let mut p = Places::new();
        p.clear(PLACES);
        for what in 1..4 {
            p.put(what, 1);
        }
        assert_eq!(p.len(), 3);
        p.clear(1);
        assert_eq!((p.len(), p.at(0), p.at(1)), (0, None, None));
        assert_eq!((p.put(4, 1), p.put(5, 1)), (Some(0), None));
    }
}
