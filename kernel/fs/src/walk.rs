//! Everything below a directory, without recursion: however deep it is, only the heap is used.
//!
//! A directory is known by its first cluster. One that is met a second time, or contains itself, is
//! damage and no tree. Sleeps.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::{self, Vec};

use crate::FsError;
use crate::slots::Place;
use crate::volume::{Entry, Volume};

/// What a walk meets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visited {
    /// Its path: the one that the walk began with, and the names below.
    pub path: String,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// A walk through a directory: directories before what is in them. After an error it goes on with
/// what is left.
pub struct Walk {
    volume: Volume,
    path: String,
    /// What is left of each directory on the way, and how long its path is.
    way: Vec<(vec::IntoIter<Entry>, usize)>,
    seen: BTreeSet<Place>,
    /// A directory that was named and is still to be gone into.
    next: bool,
    /// A file, which is all there is.
    file: bool,
}

impl Walk {
    /// From `path` on; for a file, that alone.
    ///
    /// # Errors
    /// As [`Volume::list`].
    pub(crate) fn new(volume: Volume, path: &str) -> Result<Self, FsError> {
        let mut walk = Self {
            volume,
            path: path.trim_end_matches('/').into(),
            way: Vec::new(),
            seen: BTreeSet::new(),
            next: false,
            file: false,
        };
        walk.file = !walk.enter()?;
        Ok(walk)
    }

    /// Goes into the directory at the path; false for a file.
    fn enter(&mut self) -> Result<bool, FsError> {
        let (place, list) = self.volume.look_into(&self.path)?;
        let Some(place) = place else {
            return Ok(false);
        };
        if !self.seen.insert(place) {
            return Err(FsError::Corrupt(
                "a directory that contains itself, or is in two",
            ));
        }
        self.way.push((list.into_iter(), self.path.len()));
        Ok(true)
    }
}

impl Iterator for Walk {
    /// Damage comes with the path of the directory that has it.
    type Item = Result<Visited, (String, FsError)>;

    fn next(&mut self) -> Option<Self::Item> {
        if core::mem::take(&mut self.file) {
            let path = self.path.clone();
            return Some(Ok(Visited {
                path,
                is_directory: false,
            }));
        }
        if core::mem::take(&mut self.next)
            && let Err(e) = self.enter()
        {
            return Some(Err((self.path.clone(), e)));
        }
        let entry = loop {
            let (list, length) = self.way.last_mut()?;
            self.path.truncate(*length);
            match list.next() {
                Some(entry) => break entry,
                None => self.way.pop(),
            };
        };
        self.path.push('/');
        self.path.push_str(&entry.name);
        self.next = entry.is_directory;
        Some(Ok(Visited {
            path: self.path.clone(),
            is_directory: entry.is_directory,
        }))
    }
}
