//! Which clusters a file has: taken before it grows, given back when nothing durable leads to them
//! any more.
//!
//! New clusters are a *tail*: a chain of their own that nothing leads to until `commit` links it.
//! Clusters behind the end stay the file's until `commit`, and are the first to be used when it
//! grows again. So no table that reaches the disk, whole or in part, says of a cluster that
//! somebody has it whose content is another's. Sleeps; the caller holds the volume's lock.

use alloc::vec::Vec;

use arch::PAGE_SIZE;
use mm::file::Extent;

use crate::FsError;
use crate::file::Node;
use crate::geometry::Geometry;
use crate::state::State;
use crate::table::Next;

/// The clusters of an open file. The file's layout in the page cache has the same ones, in the same
/// order.
#[derive(Clone, Copy, Default)]
pub(crate) struct Chain {
    /// The first; 0 for none.
    pub(crate) first: u32,
    /// The last.
    pub(crate) last: u32,
    /// How many.
    pub(crate) count: u32,
    /// The first of the tail, if there is one.
    pub(crate) tail: Option<u32>,
    /// How many of them are not of the tail.
    pub(crate) linked: u32,
    /// What the directory has: the first cluster and the size.
    pub(crate) entry: (u32, u32),
}

/// Where clusters lie, as extents.
#[derive(Default)]
pub(crate) struct Extents(pub(crate) Vec<Extent>);

impl Extents {
    /// Adds a cluster behind the others.
    ///
    /// # Errors
    /// Corrupt for the number of none; NoMemory.
    pub(crate) fn push(&mut self, geometry: &Geometry, cluster: u32) -> Result<(), FsError> {
        let first = geometry.page_of(cluster);
        let first = first.ok_or(FsError::Corrupt("a cluster that is not there"))?;
        let pages = geometry.pages_per_cluster();
        match self.0.last_mut() {
            Some(last) if last.first + last.pages == first => last.pages += pages,
            _ => {
                self.0.try_reserve(1).map_err(|_| FsError::NoMemory)?;
                self.0.push(Extent { first, pages });
            }
        }
        Ok(())
    }
}

impl State {
    /// The clusters of a file as the disk has them, as far as its size goes, and how many bytes
    /// they have room for at most.
    ///
    /// # Errors
    /// Corrupt, Io, NoMemory.
    pub(crate) fn chain_of(
        &mut self,
        first: u32,
        size: u32,
    ) -> Result<(Chain, Extents, u32), FsError> {
        let geometry = self.tree.geometry;
        let wanted = geometry.clusters_of(u64::from(size));
        let mut extents = Extents::default();
        let mut chain = Chain {
            entry: (first, size),
            ..Chain::default()
        };
        let mut next = Some(first).filter(|first| *first != 0);
        let mut seen = 0;
        // To its end, which a chain that loops does not have.
        while let Some(cluster) = next {
            if seen == geometry.clusters {
                return Err(FsError::Corrupt("a chain that loops"));
            }
            seen += 1;
            next = match self.table().next(cluster)? {
                Next::Cluster(next) => Some(next),
                Next::End => None,
                // This one is somebody else's to take.
                Next::Free => break,
            };
            if u64::from(chain.count) == wanted {
                continue;
            }
            extents.push(&geometry, cluster)?;
            if chain.first == 0 {
                chain.first = cluster;
            }
            chain.last = cluster;
            chain.count += 1;
        }
        chain.linked = chain.count;
        let room = u64::from(chain.count) * u64::from(geometry.cluster);
        Ok((chain, extents, u64::from(size).min(room) as u32))
    }

    /// Gives a file clusters for `size` bytes, if it has fewer. What is in them is the caller's to
    /// write, and shows when the file's size says so.
    ///
    /// # Errors
    /// TooLarge, Full, Corrupt, Io, NoMemory: it has what it had.
    pub(crate) fn reserve(&mut self, node: &Node, size: u64) -> Result<(), FsError> {
        if size > u64::from(u32::MAX) {
            return Err(FsError::TooLarge);
        }
        match self.lengthen(node, size) {
            Err(FsError::Full) if self.owes_clusters() => {
                self.commit_all()?;
                self.lengthen(node, size)
            }
            other => other,
        }
    }

    fn lengthen(&mut self, node: &Node, size: u64) -> Result<(), FsError> {
        let before = node.chain();
        let wanted = self.tree.geometry.clusters_of(size) as u32;
        if wanted <= before.count {
            return Ok(());
        }
        let mut chain = before;
        let mut extents = Extents::default();
        let done = (before.count..wanted).try_for_each(|_| self.add(&mut chain, &mut extents));
        let done = done.and_then(|()| self.enter(node, &extents));
        if done.is_ok() {
            node.set_chain(chain);
        } else {
            self.take_back(&before, &chain)?;
        }
        done
    }

    /// Adds a cluster to the tail.
    fn add(&mut self, chain: &mut Chain, extents: &mut Extents) -> Result<(), FsError> {
        let hint = if chain.count == 0 {
            self.hint
        } else {
            chain.last + 1
        };
        let cluster = self.allocate(hint)?;
        if chain.tail.is_none() {
            chain.tail = Some(cluster);
        } else if let Err(e) = self.table().link(chain.last, Some(cluster)) {
            self.free(cluster)?;
            return Err(e);
        }
        if chain.count == 0 {
            chain.first = cluster;
        }
        chain.last = cluster;
        chain.count += 1;
        extents.push(&self.tree.geometry, cluster)
    }

    /// The file's cache learns of clusters; the disk's own forgets what it has of them: they may
    /// have been a directory's, and must not be written from there any more.
    fn enter(&mut self, node: &Node, extents: &Extents) -> Result<(), FsError> {
        let pages = node.opener.limit() / PAGE_SIZE;
        let bytes = |pages| u64::from(pages) * PAGE_SIZE;
        let done = extents.0.iter().try_for_each(|&extent| {
            let (at, len) = (bytes(extent.first), bytes(extent.pages));
            self.device.forget(at, len)?;
            Ok(node.opener.add_extent(extent)?)
        });
        if done.is_err() {
            node.opener.cut_extents(pages as u32)?;
        }
        done
    }

    /// Frees what was added to a tail that was to become longer.
    fn take_back(&mut self, before: &Chain, after: &Chain) -> Result<(), FsError> {
        if after.count == before.count {
            return Ok(());
        }
        let added = match before.tail {
            None => after.tail,
            Some(_) => match self.table().next(before.last)? {
                Next::Cluster(added) => {
                    self.table().link(before.last, None)?;
                    Some(added)
                }
                Next::End | Next::Free => None,
            },
        };
        added.map_or(Ok(()), |first| self.free(first))
    }

    /// A free cluster, the first from `hint` on.
    ///
    /// # Errors
    /// Full, Io, NoMemory.
    pub(crate) fn allocate(&mut self, hint: u32) -> Result<u32, FsError> {
        let cluster = self.table().allocate(hint)?;
        self.hint = cluster + 1;
        self.free = self.free.map(|n| n.saturating_sub(1));
        Ok(cluster)
    }

    /// Gives a chain back that nothing on the disk leads to.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn free(&mut self, first: u32) -> Result<(), FsError> {
        let freed = self.table().free(first)?;
        self.free = self.free.map(|n| n.saturating_add(freed));
        Ok(())
    }
}
