//! A client of a lab that is up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::LabError;
use crate::folder::{Folder, short};
use crate::plan::{Check, Plan};
use crate::protocol::{Checked, Entry, LabState, Output, Reply, Request};
use crate::wire::Wire;

/// A connection to the supervisor of a lab.
#[derive(Debug)]
pub struct Client {
    name: String,
    wire: Wire,
}

impl Client {
    /// Connects to the lab in `folder`.
    ///
    /// # Errors
    /// [`LabError::NotUp`] when it is not up.
    pub fn connect(folder: &Folder) -> Result<Self, LabError> {
        let name = folder.name();
        let (_folder, path) = match short(&folder.control()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LabError::NotUp(name));
            }
            found => found.map_err(|source| unreachable(&name, source))?,
        };
        match UnixStream::connect(path) {
            Ok(socket) => Ok(Self { name, wire: Wire::new(socket) }),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Err(LabError::NotUp(name))
            }
            Err(source) => Err(unreachable(&name, source)),
        }
    }

    /// Returns how the lab is.
    ///
    /// # Errors
    /// When it ends meanwhile; and so for the other methods.
    pub fn state(&mut self) -> Result<LabState, LabError> {
        match self.ask(&Request::Show)? {
            (Reply::State(state), _) => Ok(state),
            other => Err(self.unexpected(other.0)),
        }
    }

    /// Asks to be told how the lab is, now and after each change.
    ///
    /// # Errors
    /// As for [`state`](Self::state).
    pub fn follow(self) -> Result<Follower, LabError> {
        self.wire.send(&Request::Follow, &[]).map_err(|source| unreachable(&self.name, source))?;
        Ok(Follower(self))
    }

    /// Runs a command for the shell in a node, and returns what it leaves. It is killed when it
    /// takes longer than `within`.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn exec(
        &mut self,
        node: &str,
        command: &str,
        within: Duration,
    ) -> Result<Output, LabError> {
        let (node, command) = (node.to_owned(), command.to_owned());
        match self.ask(&Request::Exec { node, command, within })? {
            (Reply::Output(output), _) => Ok(output),
            other => Err(self.unexpected(other.0)),
        }
    }

    /// Tries a check until it holds, or its time is over.
    ///
    /// # Errors
    /// As for [`state`](Self::state). A check that does not hold is no error.
    pub fn check(&mut self, check: &Check) -> Result<Checked, LabError> {
        match self.ask(&Request::Check(check.clone()))? {
            (Reply::Checked(checked), _) => Ok(checked),
            other => Err(self.unexpected(other.0)),
        }
    }

    /// Changes what a LAN, or `NODE:INTERFACE`, does to frames, by words such as
    /// `delay=20ms,loss=1%`. Other words stay as they were.
    ///
    /// # Errors
    /// When there is no such link, or a word is wrong.
    pub fn set(&mut self, link: &str, impair: &str) -> Result<(), LabError> {
        self.order(&Request::Set { link: link.to_owned(), impair: impair.to_owned() })
    }

    /// Ends the processes of a node, and starts it again.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn restart(&mut self, node: &str) -> Result<(), LabError> {
        self.order(&Request::Restart { node: node.to_owned() })
    }

    /// Makes the lab that of another plan of the same name. Only nodes that differ, or are on LANs
    /// that differ, are started again.
    ///
    /// # Errors
    /// When a LAN cannot be made.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), LabError> {
        self.order(&Request::Apply(plan.clone()))
    }

    /// Kills the processes of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill(&mut self, node: &str) -> Result<(), LabError> {
        self.order(&Request::Kill { node: node.to_owned() })
    }

    /// Takes the lab down. When this returns, nothing of it is left.
    ///
    /// # Errors
    /// When its folder cannot be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        self.order(&Request::Down)
    }

    /// Returns how to enter a node, and the namespaces.
    pub(crate) fn entry(&mut self, node: &str) -> Result<(Entry, Vec<OwnedFd>), LabError> {
        match self.ask(&Request::Enter { node: node.to_owned() })? {
            (Reply::Entry(entry), namespaces) => Ok((entry, namespaces)),
            other => Err(self.unexpected(other.0)),
        }
    }

    fn order(&mut self, request: &Request) -> Result<(), LabError> {
        match self.ask(request)? {
            (Reply::Done, _) => Ok(()),
            other => Err(self.unexpected(other.0)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), LabError> {
        self.wire.send(request, &[]).map_err(|source| unreachable(&self.name, source))?;
        self.receive()
    }

    fn receive(&mut self) -> Result<(Reply, Vec<OwnedFd>), LabError> {
        match self.wire.receive().map_err(|source| unreachable(&self.name, source))? {
            (Reply::Refused(why), _) => Err(LabError::Refused(why)),
            answer => Ok(answer),
        }
    }

    fn unexpected(&self, reply: Reply) -> LabError {
        match reply {
            Reply::Refused(why) => LabError::Refused(why),
            _ => unreachable(&self.name, io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A client that hears of changes. Its descriptor polls readable when there is one.
#[derive(Debug)]
pub struct Follower(Client);

impl Follower {
    /// Returns how the lab is, if that has changed, without waiting.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn change(&mut self) -> Result<Option<LabState>, LabError> {
        let Client { name, wire } = &mut self.0;
        let is_there = wire.fill_now().map_err(|source| unreachable(name, source))?;
        let mut latest = None;
        while let Some((reply, _)) = wire.next().map_err(|source| unreachable(name, source))? {
            match reply {
                Reply::State(state) => latest = Some(state),
                Reply::Refused(why) => return Err(LabError::Refused(why)),
                _ => return Err(unreachable(name, io::ErrorKind::InvalidData.into())),
            }
        }
        if latest.is_none() && !is_there {
            return Err(LabError::NotUp(name.clone()));
        }
        Ok(latest)
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wire.as_fd()
    }
}

fn unreachable(name: &str, source: io::Error) -> LabError {
    LabError::Unreachable { name: name.to_owned(), source }
}
