//! A mounted volume: directories, and the files in them.
//!
//! Entries are looked up anew for each change: the crate's are copies. Everything here takes the
//! volume's lock and sleeps.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use hadris_fat::sync::FileEntry;
use mm::file;
use sync::{Mutex, MutexGuard, Rank};

use crate::FsError;
use crate::commit::What;
use crate::disk::{self, Device, Taken};
use crate::file::{File, Node};
use crate::geometry::{FIRST, Geometry, Root};
use crate::mend::Findings;
use crate::path::{Found, first_cluster};
use crate::slots::{self, Place};
use crate::state::State;
use crate::table::Next;
use crate::walk::Walk;

/// A volume that is mounted, or was; clones are the same volume.
#[derive(Clone)]
pub struct Volume(Arc<Inner>);

struct Inner {
    geometry: Geometry,
    device: Arc<Device>,
    findings: Findings,
    state: Mutex<State>,
}

/// What is in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Bytes in it; 0 for a directory.
    pub size: u64,
}

/// What a volume is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// FAT12, FAT16 or FAT32.
    pub kind: String,
    /// Bytes in a cluster.
    pub cluster: u32,
    /// Clusters in it.
    pub clusters: u32,
    /// Why nothing can be written, if so.
    pub read_only: Option<&'static str>,
    /// What was wrong with it when it was mounted.
    pub findings: Findings,
}

/// What an unmounting has lost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// The paths of files that were changed after they were last synced.
    pub files: Vec<String>,
    /// Files or directories were made or removed.
    pub directories: bool,
}

/// Entries in a directory at most.
const MOST_ENTRIES: usize = 65_536;

static MOUNTED: spin::Mutex<Option<Volume>> = spin::Mutex::new(None);

/// Mounts the data disk, and mends what a power cut has left. Sleeps.
///
/// # Errors
/// NoDisk; Busy when it is mounted already, or somebody uses a part of it as a file; what
/// [`FsError`] says of bad volumes; Io, NoMemory.
pub fn mount() -> Result<Volume, FsError> {
    let volume = Volume::new(Taken::new()?)?;
    *MOUNTED.lock() = Some(volume.clone());
    Ok(volume)
}

/// The volume that is mounted.
///
/// # Errors
/// NotMounted.
pub fn mounted() -> Result<Volume, FsError> {
    MOUNTED.lock().clone().ok_or(FsError::NotMounted)
}

/// Makes everything durable and gives the disk back. Sleeps.
///
/// # Errors
/// NotMounted; Open; Io and NoMemory: it is still mounted.
pub fn unmount() -> Result<(), FsError> {
    mounted()?.close(true)
}

/// Gives the disk back as it is: what was not written yet is lost, as if the power were cut.
/// Sleeps.
///
/// # Errors
/// NotMounted; Open; NoMemory: it is still mounted.
pub fn abandon() -> Result<Lost, FsError> {
    let volume = mounted()?;
    let lost = volume.unwritten()?;
    volume.close(false)?;
    Ok(lost)
}

impl Volume {
    fn new(taken: Taken) -> Result<Self, FsError> {
        let opener = disk::open()?;
        let mut sector = [0; 512];
        if opener.read(0, &mut sector)? < sector.len() {
            return Err(FsError::Io);
        }
        let geometry = Geometry::new(&sector, opener.size())?;
        let device = Arc::new(Device::new(opener));
        let opened = State::new(geometry, device.clone(), disk::read_only());
        let opened = opened.and_then(|mut state| Ok((state.mend()?, state)));
        let (findings, mut state) = opened.inspect_err(|_| {
            // What it was to be written is not; the disk's own file knows no other error.
            let _ = device.forget(0, u64::MAX);
        })?;
        state.taken = Some(taken);
        Ok(Self(Arc::new(Inner {
            geometry,
            device,
            findings,
            state: Mutex::new(Rank::Volume, state),
        })))
    }

    /// Ends the use of the volume; with `write` after everything was made durable.
    fn close(&self, write: bool) -> Result<(), FsError> {
        let mut state = self.lock()?;
        if state.nodes.iter().any(Node::is_open) {
            return Err(FsError::Open);
        }
        if write && state.read_only.is_none() {
            state.commit_all()?;
            state.write_count()?;
            self.0.device.opener.sync()?;
        }
        for node in &state.nodes {
            node.forget()?;
        }
        self.0.device.forget(0, u64::MAX)?;
        state.nodes.clear();
        let taken = state.taken.take();
        drop(state);
        drop(MOUNTED.lock().take());
        // The records of files that nobody uses any more.
        file::drop_caches();
        drop(taken);
        Ok(())
    }

    /// What would be lost if nothing more were written.
    fn unwritten(&self) -> Result<Lost, FsError> {
        let state = self.lock()?;
        let nodes = state.nodes.iter().filter(|node| node.is_unsynced());
        Ok(Lost {
            files: nodes.map(|node| node.path().to_string()).collect(),
            directories: self.0.device.changes() != state.durable || !state.freed.is_empty(),
        })
    }

    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, State>, FsError> {
        let state = self.0.state.lock();
        match state.taken {
            Some(_) => Ok(state),
            None => Err(FsError::NotMounted),
        }
    }

    /// As [`Volume::lock`], to change something.
    ///
    /// # Errors
    /// NotMounted, ReadOnly, Io, NoMemory, Corrupt.
    pub(crate) fn lock_to_write(&self) -> Result<MutexGuard<'_, State>, FsError> {
        let mut state = self.lock()?;
        if let Some(why) = state.read_only {
            return Err(FsError::ReadOnly(why));
        }
        state.begin_change()?;
        Ok(state)
    }

    /// What it is.
    ///
    /// # Errors
    /// NotMounted.
    pub fn info(&self) -> Result<Info, FsError> {
        let state = self.lock()?;
        Ok(Info {
            kind: state.tree.fat.fat_type().to_string(),
            cluster: self.0.geometry.cluster,
            clusters: self.0.geometry.clusters,
            read_only: state.read_only,
            findings: self.0.findings.clone(),
        })
    }

    /// What is in the directory at `path`, in the order on the disk; for the path of a file, that
    /// file.
    ///
    /// # Errors
    /// NotMounted, NotFound, NotDirectory, BadName, Corrupt, Io, NoMemory.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, FsError> {
        Ok(self.look_into(path)?.1)
    }

    /// Everything below the directory at `path`; for the path of a file, that file.
    ///
    /// # Errors
    /// As [`Volume::list`].
    pub fn walk(&self, path: &str) -> Result<Walk, FsError> {
        Walk::new(self.clone(), path)
    }

    /// As [`Volume::list`], and where the directory is; None for a file.
    pub(crate) fn look_into(&self, path: &str) -> Result<(Option<Place>, Vec<Entry>), FsError> {
        let state = self.lock()?;
        let (found, spelled) = state.tree.find(path)?;
        // What a file's entry says is from its last sync.
        let sized = |mut entry: Entry, spelled: &str| {
            if let Some(i) = state.known(spelled) {
                entry.size = state.nodes[i].opener.size();
            }
            entry
        };
        let (dir, place) = match found {
            Found::Directory(dir, place) => (dir, place),
            Found::File(entry) => {
                let entry = sized(Entry::new(&entry), &spelled);
                return Ok((None, Vec::from([entry])));
            }
        };
        let mut list = Vec::new();
        for item in dir.entries() {
            let item = item?;
            let entry = item.as_entry().map(Entry::new);
            let entry = entry.filter(|e| e.name != "." && e.name != "..");
            let Some(entry) = entry else { continue };
            if list.len() == MOST_ENTRIES {
                return Err(FsError::Corrupt(slots::TOO_LONG));
            }
            list.try_reserve(1).map_err(|_| FsError::NoMemory)?;
            let path = alloc::format!("{spelled}/{}", entry.name);
            list.push(sized(entry, &path));
        }
        Ok((Some(place), list))
    }

    /// Whether there is a directory at `path`; false for a file.
    ///
    /// # Errors
    /// As [`Volume::list`].
    pub fn is_directory(&self, path: &str) -> Result<bool, FsError> {
        let state = self.lock()?;
        let found = state.tree.find(path)?.0;
        Ok(matches!(found, Found::Directory(..)))
    }

    /// Opens the file at `path`.
    ///
    /// # Errors
    /// NotMounted, NotFound, IsDirectory, NotDirectory, BadName, Corrupt, Io, NoMemory.
    pub fn open(&self, path: &str) -> Result<File, FsError> {
        let mut state = self.lock()?;
        let (entry, spelled) = state.tree.file(path)?;
        self.file(&mut state, &entry, spelled)
    }

    /// Makes an empty file at `path` and opens it.
    ///
    /// # Errors
    /// As [`Volume::open`] of the directory; ReadOnly, Exists, Full.
    pub fn create(&self, path: &str) -> Result<File, FsError> {
        let mut state = self.lock_to_write()?;
        state.new_entry(path)?;
        let (entry, spelled) = state.tree.file(path)?;
        self.file(&mut state, &entry, spelled)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As [`Volume::create`].
    pub fn make_directory(&self, path: &str) -> Result<(), FsError> {
        let mut state = self.lock_to_write()?;
        state.new_entry(path)?;
        let made = state.make_directory(path);
        if made.is_err() {
            let found = state.entry(path)?;
            state.delete(&found)?;
        }
        made
    }

    /// Removes a file that nobody has open, or an empty directory. Mappings of the file have no
    /// pages any more.
    ///
    /// # Errors
    /// As [`Volume::open`]; ReadOnly, Open, NotEmpty.
    pub fn remove(&self, path: &str) -> Result<(), FsError> {
        let mut state = self.lock_to_write()?;
        let (found, spelled) = state.tree.find(path)?;
        if let Found::Directory(dir, _) = found {
            for item in dir.entries() {
                let item = item?;
                let name = item.as_entry().map(FileEntry::name).unwrap_or_default();
                if name != "." && name != ".." {
                    return Err(FsError::NotEmpty);
                }
            }
        }
        let known = state.known(&spelled);
        if known.is_some_and(|i| Node::is_open(&state.nodes[i])) {
            return Err(FsError::Open);
        }
        let found = state.entry(path)?;
        state.freed.try_reserve(2).map_err(|_| FsError::NoMemory)?;
        let chain = known.map(|i| state.nodes[i].chain());
        if let Some(i) = known {
            // Under the lock: nobody opens it any more.
            state.nodes[i].forget()?;
            state.nodes.swap_remove(i);
        }
        state.delete(&found)?;
        // A chain that was not linked yet, and the one that the entry leads to.
        let (tail, first) = match chain {
            Some(chain) => (chain.tail, chain.first),
            None => (None, found.slot.first()),
        };
        let first = Some(first).filter(|first| *first >= FIRST && Some(*first) != tail);
        state.freed.extend(first.into_iter().chain(tail));
        state.taken_away(None)
    }

    /// Makes everything durable that was written before, in files and directories.
    ///
    /// # Errors
    /// NotMounted; Io when a write has failed since the last call.
    pub fn sync(&self) -> Result<(), FsError> {
        let mut state = self.lock()?;
        state.commit(What::All, &self.0.device.opener)
    }

    /// Whether `to` is `from`, or would be in the directory `from` or below it.
    ///
    /// # Errors
    /// As [`Volume::open`].
    pub fn is_within(&self, to: &str, from: &str) -> Result<bool, FsError> {
        let state = self.lock()?;
        let (found, spelled) = state.tree.find(from)?;
        if let Found::Directory(_, place) = found
            && state.tree.way(to)?.contains(&place)
        {
            return Ok(true);
        }
        match state.tree.find(to) {
            Ok((_, other)) => Ok(other == spelled),
            Err(FsError::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Opens a file whose entry was found.
    fn file(&self, state: &mut State, entry: &FileEntry, spelled: String) -> Result<File, FsError> {
        let node = match state.known(&spelled) {
            Some(i) => state.nodes[i].clone(),
            None => {
                let (first, size) = (first_cluster(entry), entry.len() as u32);
                let (chain, extents, size) = state.chain_of(first, size)?;
                let opener = file::open_extents(u64::from(size), &extents.0)?;
                let node = Arc::new(Node::new(spelled, opener, chain));
                state.nodes.push(node.clone());
                node
            }
        };
        File::new(self.clone(), node, &self.0.device.opener)
    }
}

impl State {
    /// Makes the entry of an empty file. Where the directory needs another cluster for that, it is
    /// there, and empty, before the directory leads to it.
    fn new_entry(&mut self, path: &str) -> Result<(), FsError> {
        let (dir, place, name) = self.tree.parent(path)?;
        if dir.find(name)?.is_some() {
            return Err(FsError::Exists);
        }
        let slots = slots::slots_of(name);
        self.end_deletion()?;
        if place != Place::Fixed && !self.slots().has_room(place, slots)? {
            self.lengthen_directory(place)?;
        }
        // As the borrows end above.
        let (dir, _, name) = self.tree.parent(path)?;
        self.tree.fat.create_file(&dir, name)?;
        Ok(())
    }

    fn lengthen_directory(&mut self, place: Place) -> Result<(), FsError> {
        let (Place::Chain(mut last), most) = (place, self.tree.geometry.most_of_directory()) else {
            return Err(FsError::Full);
        };
        // Behind the last but one that it can have; one that is longer was refused by who looked
        // for room.
        for _ in 1..most {
            let Next::Cluster(next) = self.table().next(last)? else {
                if self.table().is_split(last) {
                    return Err(FsError::Full);
                }
                let new = self.empty_cluster(None)?;
                return self.table().link(last, Some(new));
            };
            last = next;
        }
        Err(FsError::Full)
    }

    /// A free cluster for a directory. Another may be linked behind it later, which nobody can do
    /// in one write where the table's entry is split; and what a directory's chain leads to is
    /// believed, as it has no size.
    ///
    /// # Errors
    /// Full, Io, NoMemory.
    fn allocate_for_directory(&mut self) -> Result<u32, FsError> {
        let new = self.allocate(self.hint)?;
        if !self.table().is_split(new) {
            return Ok(new);
        }
        let next = self.allocate(new + 1);
        self.free(new)?;
        next
    }

    /// A new cluster of an empty directory, on the disk as well; with `parent` it is its first.
    fn empty_cluster(&mut self, parent: Option<u32>) -> Result<u32, FsError> {
        const ZEROES: [u8; arch::PAGE_SIZE as usize] = [0; arch::PAGE_SIZE as usize];
        let new = match self.allocate_for_directory() {
            Err(FsError::Full) if self.owes_clusters() => {
                self.commit_all()?;
                self.allocate_for_directory()?
            }
            other => other?,
        };
        let at = self.tree.geometry.byte_of(new);
        let end = at + u64::from(self.tree.geometry.cluster);
        let pages = (at..end).step_by(ZEROES.len());
        let mut wrote = pages
            .into_iter()
            .try_for_each(|page| self.disk.put(page, &ZEROES));
        if let Some(parent) = parent {
            let dots = slots::dots(new, parent);
            wrote = wrote.and_then(|()| self.disk.put(at, &dots));
        }
        let wrote = wrote.and_then(|()| Ok(self.device.opener.sync()?));
        if wrote.is_err() {
            self.free(new)?;
        }
        wrote.map(|()| new)
    }

    /// The empty file at `path` becomes an empty directory.
    fn make_directory(&mut self, path: &str) -> Result<(), FsError> {
        let (_, place, _) = self.tree.parent(path)?;
        let parent = match (place, self.tree.geometry.root) {
            (Place::Chain(first), Root::Cluster(root)) if first == root => 0,
            (Place::Chain(first), _) => first,
            (Place::Fixed, _) => 0,
        };
        let new = self.empty_cluster(Some(parent))?;
        let slot = self.entry(path)?.slot.of_directory().with(new, 0);
        self.slots().put(&slot)
    }
}

impl Entry {
    fn new(entry: &FileEntry) -> Self {
        Self {
            name: entry.name().into_owned(),
            is_directory: entry.is_directory(),
            size: entry.len(),
        }
    }
}
