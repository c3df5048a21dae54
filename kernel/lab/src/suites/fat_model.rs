//! What a volume is to hold, and random operations on it and on the volume.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use fastrand::Rng;
use fs::{File, FsError, Volume};

use super::Outcome;
use super::fat::{expect, write};
use super::file::{PAGE, bytes};
use crate::selftest::Failure;
use crate::{check, check_eq};

const DIRS: [&str; 4] = ["", "/D", "/A long directory", "/D/deep"];
const NAMES: [&str; 5] = ["A.TXT", "b", "Some longer name.data", "x.y.z", "deep"];

/// By path: files with their content, directories without.
#[derive(Default)]
pub(super) struct Model(BTreeMap<String, Option<Vec<u8>>>);

impl Model {
    /// What is in a directory, by name: directories, and files with their sizes.
    fn within(&self, dir: &str) -> Vec<(&str, Option<u64>)> {
        let below = self.0.iter().filter_map(|(path, what)| {
            let name = path.strip_prefix(dir)?.strip_prefix('/')?;
            let size = what.as_ref().map(|content| content.len() as u64);
            (!name.contains('/')).then_some((name, size))
        });
        below.collect()
    }

    /// The volume holds this and nothing else.
    pub(super) fn verify(&self, volume: &Volume) -> Outcome {
        self.verify_directory(volume, "")?;
        for (path, what) in &self.0 {
            match what {
                Some(content) => expect(&volume.open(path)?, content)?,
                None => self.verify_directory(volume, path)?,
            }
        }
        Ok(())
    }

    fn verify_directory(&self, volume: &Volume, dir: &str) -> Outcome {
        let list = volume.list(dir)?;
        let of = |e: &'_ fs::Entry| (!e.is_directory).then_some(e.size);
        let mut found: Vec<_> = list.iter().map(|e| (e.name.as_str(), of(e))).collect();
        found.sort_unstable();
        check_eq!(found, self.within(dir));
        Ok(())
    }

    /// One operation, chosen by chance, on both.
    pub(super) fn step(&mut self, volume: &Volume, rng: &mut Rng) -> Outcome {
        if rng.u8(..16) == 0 {
            return Ok(volume.sync()?);
        }
        self.change(volume, rng)
    }

    /// As [`Model::step`], but never a sync.
    pub(super) fn change(&mut self, volume: &Volume, rng: &mut Rng) -> Outcome {
        let dir = DIRS[rng.usize(..DIRS.len())];
        let path = format!("{dir}/{}", NAMES[rng.usize(..NAMES.len())]);
        // A directory that others go into, if there is one.
        let either = if rng.bool() && !dir.is_empty() {
            dir
        } else {
            &path
        };
        match rng.u8(..16) {
            0..3 => self.make_directory(volume, either),
            3..6 => self.remove(volume, either),
            6..8 => self.truncate(volume, &path, rng),
            _ => self.write(volume, &path, rng),
        }
    }

    /// Whether there is a directory for `path` to be in.
    fn has_parent(&self, path: &str) -> bool {
        match path.rsplit_once('/') {
            Some(("", _)) | None => true,
            Some((dir, _)) => self.0.get(dir).is_some_and(Option::is_none),
        }
    }

    /// `e` is the right refusal of a path that leads nowhere.
    fn is_refusal(&self, path: &str, e: FsError) -> bool {
        e == FsError::NotFound || e == FsError::NotDirectory && !self.has_parent(path)
    }

    fn make_directory(&mut self, volume: &Volume, path: &str) -> Outcome {
        let done = volume.make_directory(path);
        if !self.has_parent(path) {
            let right = done.is_err_and(|e| self.is_refusal(path, e));
            check!(right, "{path}: {done:?}");
        } else if self.0.contains_key(path) {
            check_eq!(done, Err(FsError::Exists));
        } else {
            done?;
            self.0.insert(path.to_string(), None);
        }
        Ok(())
    }

    fn remove(&mut self, volume: &Volume, path: &str) -> Outcome {
        let done = volume.remove(path);
        if !self.0.contains_key(path) {
            let right = done.is_err_and(|e| self.is_refusal(path, e));
            check!(right, "{path}: {done:?}");
        } else if !self.within(path).is_empty() {
            check_eq!(done, Err(FsError::NotEmpty));
        } else {
            done?;
            self.0.remove(path);
        }
        Ok(())
    }

    /// The file at `path` and what it is to hold, if there is one.
    fn open(
        &mut self,
        volume: &Volume,
        path: &str,
    ) -> Result<Option<(File, &mut Vec<u8>)>, Failure> {
        let opened = volume.open(path);
        let refused = opened.as_ref().err().copied();
        let right = match self.0.get(path) {
            Some(Some(_)) => refused.is_none(),
            Some(None) => refused == Some(FsError::IsDirectory),
            None => refused.is_some_and(|e| self.is_refusal(path, e)),
        };
        check!(right, "{path}: {refused:?}");
        let content = self.0.get_mut(path).and_then(Option::as_mut);
        Ok(opened.ok().zip(content))
    }

    fn truncate(&mut self, volume: &Volume, path: &str, rng: &mut Rng) -> Outcome {
        if let Some((file, content)) = self.open(volume, path)? {
            let size = length(rng);
            file.truncate(size as u64)?;
            content.resize(size, 0);
        }
        Ok(())
    }

    /// Writes into a file, which is made if it can be.
    fn write(&mut self, volume: &Volume, path: &str, rng: &mut Rng) -> Outcome {
        if self.has_parent(path) && !self.0.contains_key(path) {
            drop(volume.create(path)?);
            self.0.insert(path.to_string(), Some(Vec::new()));
        }
        if let Some((file, content)) = self.open(volume, path)? {
            // Within the file, across its end, or behind it.
            let pos = rng.usize(..content.len() + PAGE);
            let data = bytes(pos, length(rng).max(1), rng.u8(..));
            let end = pos + data.len();
            write(&file, pos, &data)?;
            content.resize(content.len().max(end), 0);
            content[pos..end].copy_from_slice(&data);
        }
        Ok(())
    }
}

/// How much: nothing, around pages, and up to 100 kB.
fn length(rng: &mut Rng) -> usize {
    match rng.u8(..4) {
        0 => rng.usize(..3),
        1 => rng.usize(1..4) * PAGE + rng.usize(..3) - 1,
        _ => rng.usize(..100_000),
    }
}
