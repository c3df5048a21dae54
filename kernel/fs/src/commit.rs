//! What is written before what, so that the power may fail at any moment.
//!
//! Any page may be written at any time by the flusher, and the disk may keep or lose each write
//! since the last flush. So what must not be seen in part is not in a page yet: of a file that has
//! changed, the directory and the table say what was synced, until a commit:
//!
//! 1. content, and the chains of new clusters, which nothing leads to; flush
//! 2. the file's last cluster leads to the new ones; flush
//! 3. the directory has the file's new size, and its first cluster; flush
//! 4. the chain ends where the size does; flush
//! 5. clusters that nothing leads to any more are free, and may be another's.
//!
//! A cut between leaves clusters that are nobody's, or a chain that is longer than the size; `mend`
//! trims it. Removed files and directories wait for 5 as well. Sleeps; the caller holds the
//! volume's lock.

use alloc::sync::Arc;
use alloc::vec::Vec;

use mm::file::Opener;
use mm::knobs::{self, Knob};

use crate::FsError;
use crate::chain::Chain;
use crate::file::Node;
use crate::state::State;

/// Which files a commit is about.
pub(crate) enum What<'a> {
    /// All of them.
    All,
    /// This one, which is read and written through this opener.
    One(&'a Arc<Node>, &'a Opener),
}

/// The files whose content is on the disk, and the first error.
struct Files {
    /// Those that have changed, or whose content was not durable before.
    list: Vec<Arc<Node>>,
    result: Result<(), FsError>,
}

impl Files {
    /// Writes a file's content, and adds the file if there is more to do. Others go on after one
    /// that failed.
    fn take(&mut self, state: &State, node: &Arc<Node>, content: &Opener) {
        let room = self.list.try_reserve(1).map_err(|_| FsError::NoMemory);
        let unsynced = node.is_unsynced();
        // For who asks after a failure what is lost: the flush may have failed after the writing.
        node.set_unsynced(unsynced);
        match room.and_then(|()| Ok(content.sync()?)) {
            Ok(()) if unsynced || state.is_changed(node) => self.list.push(node.clone()),
            done => self.result = self.result.and(done),
        }
    }
}

impl State {
    /// A commit would make clusters free.
    pub(crate) fn owes_clusters(&self) -> bool {
        let geometry = &self.tree.geometry;
        let surplus = |node: &Arc<Node>| {
            u64::from(node.chain().count) > geometry.clusters_of(node.opener.size())
        };
        !self.freed.is_empty() || self.nodes.iter().any(surplus)
    }

    /// A commit of everything.
    ///
    /// # Errors
    /// As [`State::commit`].
    pub(crate) fn commit_all(&mut self) -> Result<(), FsError> {
        let device = self.device.clone();
        self.commit(What::All, &device.opener)
    }

    /// Makes files durable, with all directories. `disk` is told of errors of the metadata.
    ///
    /// # Errors
    /// Io when a write has failed since the openers were last told: of a file whose content could
    /// not be written the directory has what it had. Corrupt, NoMemory.
    pub(crate) fn commit(&mut self, what: What<'_>, disk: &Opener) -> Result<(), FsError> {
        let mut files = Files {
            list: Vec::new(),
            result: Ok(()),
        };
        match &what {
            What::All => {
                let nodes = self.nodes.iter();
                nodes.for_each(|node| files.take(self, node, &node.opener));
            }
            What::One(node, content) => files.take(self, node, content),
        }
        self.sync_disk(disk)?;
        self.after(&mut files, disk, Self::link_tail)?;
        self.after(&mut files, disk, Self::write_entry)?;
        self.after(&mut files, disk, Self::end_chain)?;
        files.list.iter().for_each(|node| node.set_unsynced(false));
        if self.free_all()? && matches!(what, What::All) {
            self.sync_disk(disk)?;
        }
        files.result
    }

    /// One step for all files, and a flush if it changed anything. A file for which it fails is
    /// left as it is then.
    fn after(
        &mut self,
        files: &mut Files,
        disk: &Opener,
        step: fn(&mut Self, &Node) -> Result<bool, FsError>,
    ) -> Result<(), FsError> {
        let mut changed = false;
        let result = &mut files.result;
        files.list.retain(|node| match step(self, node) {
            Ok(did) => {
                changed |= did;
                true
            }
            Err(e) => {
                *result = (*result).and(Err(e));
                false
            }
        });
        if changed {
            self.sync_disk(disk)?;
        }
        Ok(())
    }

    /// What was written of the directories and the table is durable. `disk` is told of errors.
    ///
    /// # Errors
    /// Io when a write has failed since `disk` was last told.
    pub(crate) fn sync_disk(&mut self, disk: &Opener) -> Result<(), FsError> {
        let changes = self.device.changes();
        disk.sync()?;
        self.durable = changes;
        self.deleted = false;
        Ok(())
    }

    /// The first cluster and the size that the directory is to have.
    fn wanted_entry(node: &Node) -> (u32, u32) {
        // Files are shorter than 4 GiB.
        let size = node.opener.size() as u32;
        let first = if size == 0 { 0 } else { node.chain().first };
        (first, size)
    }

    /// Clusters that the file keeps.
    fn kept(&self, node: &Node) -> u32 {
        self.tree.geometry.clusters_of(node.opener.size()) as u32
    }

    /// The disk has something else of the file than it is.
    pub(crate) fn is_changed(&self, node: &Node) -> bool {
        let chain = node.chain();
        chain.entry != Self::wanted_entry(node) || chain.count > self.kept(node)
    }

    /// The chain leads on to the tail, if the file needs that.
    fn link_tail(&mut self, node: &Node) -> Result<bool, FsError> {
        let mut chain = node.chain();
        let Some(tail) = chain.tail.filter(|_| self.kept(node) > chain.linked) else {
            return Ok(false);
        };
        let before = self.cluster_at(node, chain.linked);
        if let Some(before) = before {
            self.table().link(before, Some(tail))?;
        }
        chain.tail = None;
        chain.linked = chain.count;
        node.set_chain(chain);
        Ok(before.is_some())
    }

    fn write_entry(&mut self, node: &Node) -> Result<bool, FsError> {
        let mut chain = node.chain();
        let wanted = Self::wanted_entry(node);
        if chain.entry == wanted {
            return Ok(false);
        }
        let found = self.entry(node.path())?;
        let slot = found.slot.with(wanted.0, wanted.1);
        self.slots().put(&slot)?;
        chain.entry = wanted;
        node.set_chain(chain);
        Ok(true)
    }

    /// The file has no clusters behind its end any more; they wait to be freed.
    fn end_chain(&mut self, node: &Node) -> Result<bool, FsError> {
        let (mut chain, kept) = (node.chain(), self.kept(node));
        if chain.count <= kept {
            return Ok(false);
        }
        self.freed.try_reserve(2).map_err(|_| FsError::NoMemory)?;
        let last = self.cluster_at(node, kept);
        let behind = self
            .cluster_at(node, kept + 1)
            .filter(|_| kept < chain.linked);
        let pages = kept * self.tree.geometry.pages_per_cluster();
        node.opener.cut_extents(pages)?;
        let cut = match last.filter(|_| behind.is_some()) {
            Some(last) => self.table().link(last, None).map(|()| true),
            None => Ok(false),
        };
        // Should the link have failed, they stay nobody's.
        if cut.is_ok() {
            self.freed.extend(behind);
        }
        self.freed.extend(chain.tail.take());
        chain.last = last.unwrap_or(0);
        chain.first = if kept == 0 { 0 } else { chain.first };
        (chain.count, chain.linked) = (kept, kept);
        node.set_chain(chain);
        cut
    }

    /// The `n`th cluster of a file, from 1 on.
    fn cluster_at(&self, node: &Node, n: u32) -> Option<u32> {
        let geometry = &self.tree.geometry;
        let page = n.checked_sub(1)? * geometry.pages_per_cluster();
        let place = node.opener.place(page);
        place.map(|page| geometry.cluster_of(page))
    }

    /// Clusters were taken from a file, or a file from its directory. They wait for a commit, if
    /// nobody breaks the rule.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn taken_away(&mut self, node: Option<&Node>) -> Result<(), FsError> {
        if !knobs::on(Knob::FatOrder) {
            node.map_or(Ok(false), |node| self.end_chain(node))?;
            self.free_all()?;
        }
        Ok(())
    }

    /// Frees the chains that nothing durable leads to any more; whether there were any.
    fn free_all(&mut self) -> Result<bool, FsError> {
        let any = !self.freed.is_empty();
        while let Some(first) = self.freed.pop() {
            self.free(first)?;
        }
        Ok(any)
    }
}

impl Node {
    /// Its clusters.
    pub(crate) fn chain(&self) -> Chain {
        *self.chain.lock()
    }

    /// Its clusters are these.
    pub(crate) fn set_chain(&self, chain: Chain) {
        *self.chain.lock() = chain;
    }
}
