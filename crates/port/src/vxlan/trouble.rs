//! What goes wrong at one end of a VXLAN, until it is reported.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::remotes::Remotes;
use crate::report_once::ReportOnce;

/// What the next service reports.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) said: ReportOnce,
    /// A sender that is no peer.
    pub(super) stranger: Option<IpAddr>,
    /// A VXLAN that is not ours, and who sent it.
    pub(super) other_vni: Option<(u32, IpAddr)>,
    pub(super) no_vxlan: Option<IpAddr>,
    /// A remote that floods.
    pub(super) storm: Option<usize>,
    /// A remote that nothing reaches, and why.
    pub(super) unreachable: Option<(SocketAddr, io::Error)>,
    /// Datagrams that came too fast.
    pub(super) drops: u64,
    /// What is sent in fragments.
    pub(super) narrow: Option<String>,
}

impl Trouble {
    pub(super) fn report(&mut self, name: &str, remotes: &Remotes, report: &mut dyn FnMut(&str)) {
        let mut say = |line: String| {
            if self.said.is_new(&line) {
                report(&format!("{name}: {line}"));
            }
        };
        if let Some(line) = self.narrow.take() {
            say(line);
        }
        if let Some(sender) = self.stranger.take() {
            say(format!("datagrams from {sender} are dropped: it is none of the peers"));
        }
        if let Some((vni, sender)) = self.other_vni.take() {
            say(format!("datagrams of VXLAN {vni} from {sender} are dropped"));
        }
        if let Some(sender) = self.no_vxlan.take() {
            say(format!("datagrams from {sender} are dropped: they are no VXLAN"));
        }
        if let Some(remote) = self.storm.take() {
            let sender = remotes.get(remote).name();
            say(format!(
                "{sender} sends more broadcast and multicast frames than storm= lets pass; they are dropped"
            ));
        }
        if let Some((to, error)) = self.unreachable.take() {
            say(format!("cannot send to {to}: {error}; frames for it are dropped"));
        }
        if self.drops > 0 {
            say(format!(
                "{} datagrams came faster than they were read, and the kernel dropped them; \
                 'sysctl -w net.core.rmem_max=8388608' lets more of them wait",
                self.drops
            ));
        }
        self.drops = 0;
    }
}
