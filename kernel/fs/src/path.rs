//! Paths: names separated by `/`, from the root. Names compare as FAT compares them, so a file's
//! one name is how its directory spells it. Directories are the same when they begin in the same
//! cluster.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use hadris_fat::FatVolume;
use hadris_fat::sync::{FatDir, FileEntry};

use crate::FsError;
use crate::disk::Disk;
use crate::geometry::Geometry;
use crate::slots::Place;

/// The names of a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter(|name| !name.is_empty() && *name != ".")
}

/// What a path leads to.
pub(crate) enum Found<'a> {
    Directory(FatDir<'a, Disk>, Place),
    File(Box<FileEntry>),
}

/// The volume's directories, as the crate sees them.
pub(crate) struct Tree {
    pub(crate) fat: FatVolume<Disk>,
    pub(crate) geometry: Geometry,
}

impl Tree {
    /// What is at `path`, and that path as the directories spell it.
    ///
    /// # Errors
    /// NotFound, NotDirectory, BadName, Corrupt, Io, NoMemory.
    pub(crate) fn find(&self, path: &str) -> Result<(Found<'_>, String), FsError> {
        self.walk(names(path))
    }

    fn walk<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<(Found<'_>, String), FsError> {
        let mut found = Found::Directory(self.fat.root_dir(), Place::root(&self.geometry));
        let mut spelled = String::new();
        for name in names {
            let Found::Directory(dir, _) = found else {
                return Err(FsError::NotDirectory);
            };
            let entry = self.entry(&dir, name)?;
            spelled.push('/');
            spelled.push_str(&entry.name());
            found = if entry.is_directory() {
                Found::Directory(dir.open_entry(&entry)?, Place::Chain(first_cluster(&entry)))
            } else {
                Found::File(Box::new(entry))
            };
        }
        Ok((found, spelled))
    }

    /// The entry called `name`. A directory has a cluster: the crate relies on it.
    ///
    /// # Errors
    /// As [`Tree::find`].
    pub(crate) fn entry(&self, dir: &FatDir<'_, Disk>, name: &str) -> Result<FileEntry, FsError> {
        if name == ".." {
            return Err(FsError::BadName);
        }
        let entry = dir.find(name)?.ok_or(FsError::NotFound)?;
        if entry.is_directory() && self.geometry.page_of(first_cluster(&entry)).is_none() {
            return Err(FsError::Corrupt("a directory without a cluster"));
        }
        Ok(entry)
    }

    /// The directory that `path`'s last name is or would be in, and that name.
    ///
    /// # Errors
    /// As [`Tree::find`]; BadName also for the root itself.
    pub(crate) fn parent<'p>(
        &self,
        path: &'p str,
    ) -> Result<(FatDir<'_, Disk>, Place, &'p str), FsError> {
        let mut names: Vec<&str> = names(path).collect();
        let name = names.pop().filter(|name| *name != "..");
        let name = name.ok_or(FsError::BadName)?;
        match self.walk(names.into_iter())?.0 {
            Found::Directory(dir, place) => Ok((dir, place, name)),
            Found::File(_) => Err(FsError::NotDirectory),
        }
    }

    /// The directories that one passes on the way to `path`'s last name, the root first.
    ///
    /// # Errors
    /// As [`Tree::parent`].
    pub(crate) fn way(&self, path: &str) -> Result<Vec<Place>, FsError> {
        let mut names: Vec<&str> = names(path).collect();
        names.pop();
        let mut way = Vec::new();
        for n in 0..=names.len() {
            match self.walk(names[..n].iter().copied())?.0 {
                Found::Directory(_, place) => way.push(place),
                Found::File(_) => return Err(FsError::NotDirectory),
            }
        }
        Ok(way)
    }

    /// The entry of the file at `path`, and that path as the directories spell it.
    ///
    /// # Errors
    /// As [`Tree::find`], and IsDirectory.
    pub(crate) fn file(&self, path: &str) -> Result<(FileEntry, String), FsError> {
        match self.find(path)? {
            (Found::File(entry), spelled) => Ok((*entry, spelled)),
            (Found::Directory(..), _) => Err(FsError::IsDirectory),
        }
    }
}

/// The number of an entry's first cluster; 0 for none.
pub(crate) fn first_cluster(entry: &FileEntry) -> u32 {
    u32::try_from(entry.cluster().0).unwrap_or(u32::MAX)
}
