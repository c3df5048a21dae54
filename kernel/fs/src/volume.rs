//! A mounted volume: directories, and which clusters are whose.
//!
//! The entry of a file is looked up anew for each change of it: the crate's entries are copies. Everything here takes the
//! volume's lock and sleeps.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch::PAGE_SIZE;
use hadris_fat::FatVolume;
use hadris_fat::sync::write::FileWriter;
use hadris_fat::sync::{FatVolumeWriteExt, FileEntry};
use mm::file::{self, Extent};
use sync::{Mutex, MutexGuard, Rank};

use crate::FsError;
use crate::disk::{self, Device, Disk, Taken};
use crate::file::{File, Node};
use crate::geometry::Geometry;
use crate::path::{Found, Tree, first_cluster};

/// A volume that is mounted, or was; clones are the same volume.
#[derive(Clone)]
pub struct Volume(Arc<Inner>);

struct Inner {
    geometry: Geometry,
    device: Arc<Device>,
    state: Mutex<State>,
}

/// What the volume's lock guards.
pub(crate) struct State {
    tree: Tree,
    /// Every file that was opened since the volume was mounted: its cache stays the only one of its clusters.
    nodes: Vec<Arc<Node>>,
    /// Until the volume is unmounted.
    taken: Option<Taken>,
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
}

static MOUNTED: spin::Mutex<Option<Volume>> = spin::Mutex::new(None);

/// Mounts the data disk. Sleeps.
///
/// # Errors
/// NoDisk; Busy when it is mounted already, or somebody uses a part of it as a file; what [`FsError`] says of bad
/// volumes; Io, NoMemory.
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

/// Gives the disk back as it is: what was not written yet is lost, as if the power were cut. Sleeps.
///
/// # Errors
/// NotMounted; Open; NoMemory: it is still mounted.
pub fn abandon() -> Result<(), FsError> {
    mounted()?.close(false)
}

impl Volume {
    fn new(taken: Taken) -> Result<Self, FsError> {
        let opener = disk::open()?;
        let mut sector = [0; 512];
        if opener.read(0, &mut sector)? < sector.len() {
            return Err(FsError::Io);
        }
        let geometry = Geometry::new(&sector, opener.size())?;
        let device = Arc::new(Device::new(opener, geometry.data));
        let state = State {
            tree: Tree {
                fat: FatVolume::open(Disk::new(device.clone()))?,
                geometry,
            },
            nodes: Vec::new(),
            taken: Some(taken),
        };
        Ok(Self(Arc::new(Inner {
            geometry,
            device,
            state: Mutex::new(Rank::Volume, state),
        })))
    }

    /// Ends the use of the volume; with `write` after everything was made durable.
    fn close(&self, write: bool) -> Result<(), FsError> {
        let mut state = self.lock()?;
        if state.nodes.iter().any(Node::is_open) {
            return Err(FsError::Open);
        }
        if write {
            self.sync_all(&state)?;
        }
        for node in &state.nodes {
            node.forget()?;
        }
        self.0.device.opener.invalidate(0, u64::MAX)?;
        state.nodes.clear();
        let taken = state.taken.take();
        drop(state);
        drop(MOUNTED.lock().take());
        // The records of files that nobody uses any more.
        file::drop_caches();
        drop(taken);
        Ok(())
    }

    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, State>, FsError> {
        let state = self.0.state.lock();
        match state.taken {
            Some(_) => Ok(state),
            None => Err(FsError::NotMounted),
        }
    }

    /// What it is.
    ///
    /// # Errors
    /// NotMounted.
    pub fn info(&self) -> Result<Info, FsError> {
        Ok(Info {
            kind: self.lock()?.tree.fat.fat_type().to_string(),
            cluster: self.0.geometry.cluster,
            clusters: self.0.geometry.clusters,
        })
    }

    /// What is in the directory at `path`, in the order on the disk; for the path of a file, that file.
    ///
    /// # Errors
    /// NotMounted, NotFound, NotDirectory, BadName, Corrupt, Io, NoMemory.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, FsError> {
        let state = self.lock()?;
        let dir = match state.tree.find(path)?.0 {
            Found::Directory(dir) => dir,
            Found::File(entry) => return Ok(Vec::from([Entry::new(&entry)])),
        };
        let mut list = Vec::new();
        for item in dir.entries() {
            let item = item?;
            let entry = item.as_entry().map(Entry::new);
            list.extend(entry.filter(|e| e.name != "." && e.name != ".."));
        }
        Ok(list)
    }

    /// Whether there is a directory at `path`; false for a file.
    ///
    /// # Errors
    /// As [`Volume::list`].
    pub fn is_directory(&self, path: &str) -> Result<bool, FsError> {
        let state = self.lock()?;
        let found = state.tree.find(path)?.0;
        Ok(matches!(found, Found::Directory(_)))
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
    /// As [`Volume::open`] of the directory; Exists, Full.
    pub fn create(&self, path: &str) -> Result<File, FsError> {
        let mut state = self.lock()?;
        let (dir, name) = state.tree.parent(path)?;
        state.tree.fat.create_file(&dir, name)?;
        let (entry, spelled) = state.tree.file(path)?;
        self.file(&mut state, &entry, spelled)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As [`Volume::create`].
    pub fn make_directory(&self, path: &str) -> Result<(), FsError> {
        let state = self.lock()?;
        let (dir, name) = state.tree.parent(path)?;
        state.tree.fat.create_dir(&dir, name)?;
        Ok(())
    }

    /// Removes a file that nobody has open, or an empty directory. Mappings of the file have no pages any more.
    ///
    /// # Errors
    /// As [`Volume::open`]; Open, NotEmpty.
    pub fn remove(&self, path: &str) -> Result<(), FsError> {
        let mut state = self.lock()?;
        let (dir, name) = state.tree.parent(path)?;
        let entry = state.tree.entry(&dir, name)?;
        let spelled = state.tree.find(path)?.1;
        let known = state.nodes.iter().position(|n| n.is(&spelled));
        if known.is_some_and(|i| Node::is_open(&state.nodes[i])) {
            return Err(FsError::Open);
        }
        state.tree.fat.delete(&entry)?;
        match known {
            // Under the lock still: nobody else has got its clusters.
            Some(i) => state.nodes.swap_remove(i).forget(),
            None => Ok(()),
        }
    }

    /// Makes everything durable that was written before, in files and directories.
    ///
    /// # Errors
    /// NotMounted; Io when a write has failed since the last call.
    pub fn sync(&self) -> Result<(), FsError> {
        let state = self.lock()?;
        self.sync_all(&state)
    }

    fn sync_all(&self, state: &State) -> Result<(), FsError> {
        let mut result = Ok(());
        for node in &state.nodes {
            // All of them, also after one that failed.
            result = node.opener.sync().and(result);
        }
        Ok(self.0.device.opener.sync().and(result)?)
    }

    /// Opens a file whose entry was found.
    fn file(&self, state: &mut State, entry: &FileEntry, spelled: String) -> Result<File, FsError> {
        let known = state.nodes.iter().find(|node| node.is(&spelled));
        let node = match known {
            Some(node) => node.clone(),
            None => {
                let extents = self.extents(&self.clusters(state, entry)?)?;
                let opener = file::open_extents(entry.len(), &extents)?;
                let node = Arc::new(Node::new(spelled, opener));
                state.nodes.push(node.clone());
                node
            }
        };
        File::new(self.clone(), node, &self.0.device.opener)
    }

    /// The clusters of a file, in order.
    fn clusters(&self, state: &State, entry: &FileEntry) -> Result<Vec<u32>, FsError> {
        let mut found = Vec::new();
        let first = first_cluster(entry);
        if first != 0 {
            let reader = &mut Disk::new(self.0.device.clone());
            let most = self.0.geometry.clusters;
            let see = |cluster| found.push(cluster);
            state.tree.fat.fat().walk_chain(reader, first, most, see)?;
        }
        let wanted = self.0.geometry.clusters_of(entry.len());
        if found.len() as u64 != wanted && !entry.is_empty() {
            return Err(FsError::Corrupt("a file's chain does not fit its size"));
        }
        Ok(found)
    }

    /// Where `clusters` lie.
    fn extents(&self, clusters: &[u32]) -> Result<Vec<Extent>, FsError> {
        let geometry = &self.0.geometry;
        let pages = geometry.pages_per_cluster();
        let mut list: Vec<Extent> = Vec::new();
        for &cluster in clusters {
            let first = geometry.page_of(cluster);
            let first = first.ok_or(FsError::Corrupt("a cluster that is not there"))?;
            match list.last_mut() {
                Some(last) if last.first + last.pages == first => last.pages += pages,
                _ => list.push(Extent { first, pages }),
            }
        }
        Ok(list)
    }

    /// Gives a file clusters for `size` bytes, which is more than it has, and its entry that size. What is in them is the
    /// caller's to write.
    pub(crate) fn grow(&self, state: &State, node: &Node, size: u64) -> Result<(), FsError> {
        if size > u64::from(u32::MAX) {
            return Err(FsError::TooLarge);
        }
        let mut entry = state.tree.file(node.path())?.0;
        if entry.len() > node.opener.size() {
            // Giving back has failed before.
            self.give_back(state, node)?;
            entry = state.tree.file(node.path())?.0;
        }
        let reserve = || self.reserve(state, &entry, size);
        self.0.device.reserving(reserve)?.finish()?;
        let added = self.add_fresh(state, node);
        added.or_else(|e| self.give_back(state, node).and(Err(e)))
    }

    /// The file's cache learns of the clusters at the end of its chain; the disk's own forgets what it has of them: they may have
    /// been a directory's, and must not be written from there any more.
    fn add_fresh(&self, state: &State, node: &Node) -> Result<(), FsError> {
        let entry = state.tree.file(node.path())?.0;
        let clusters = self.clusters(state, &entry)?;
        let had = node.opener.limit() / u64::from(self.0.geometry.cluster);
        let fresh = clusters.get(had as usize..).unwrap_or_default();
        for extent in self.extents(fresh)? {
            let bytes = |pages| u64::from(pages) * PAGE_SIZE;
            let disk = &self.0.device.opener;
            disk.invalidate(bytes(extent.first), bytes(extent.pages))?;
            node.opener.add_extent(extent)?;
        }
        Ok(())
    }

    /// Chains clusters to a file until it can have `size` bytes.
    fn reserve<'a>(
        &self,
        state: &'a State,
        entry: &FileEntry,
        size: u64,
    ) -> Result<FileWriter<'a, Disk>, FsError> {
        static NOTHING: [u8; 4096] = [0; 4096];
        let mut writer = FileWriter::new_append(&state.tree.fat, entry)?;
        let mut left = size - entry.len();
        while left > 0 {
            let n = left.min(NOTHING.len() as u64) as usize;
            left -= writer.write(&NOTHING[..n])? as u64;
        }
        Ok(writer)
    }

    /// Makes a file `size` bytes long, which is less than it has.
    pub(crate) fn shrink(&self, state: &State, node: &Node, size: u64) -> Result<(), FsError> {
        node.opener.truncate(size)?;
        self.give_back(state, node)
    }

    /// Takes clusters behind the end from a file, and gives its entry the size that the file has.
    pub(crate) fn give_back(&self, state: &State, node: &Node) -> Result<(), FsError> {
        let size = node.opener.size();
        let geometry = &self.0.geometry;
        let pages = geometry.clusters_of(size) * u64::from(geometry.pages_per_cluster());
        node.opener.cut_extents(pages as u32)?;
        let entry = state.tree.file(node.path())?.0;
        Ok(state.tree.fat.truncate(&entry, size as usize)?)
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
