//! Interfaces, their addresses and routes.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::error::NetifError;
use crate::netlink::Netlink;

/// What the kernel knows about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number, unique in its network namespace while it exists.
    pub index: u32,
    /// The longest packet it carries, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Its Ethernet address; `None`: it has none.
    pub mac: Option<[u8; 6]>,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is up and its cable is plugged in.
    pub running: bool,
}

/// The interfaces of one network namespace: that of the thread that calls
/// [`open`](Interfaces::open). Where they are used from does not matter afterwards.
pub struct Interfaces {
    netlink: Netlink,
}

impl Interfaces {
    /// Opens the interfaces of the network namespace that this thread is in.
    ///
    /// # Errors
    /// When no netlink socket is available.
    pub fn open() -> Result<Self, NetifError> {
        Ok(Self { netlink: Netlink::open()? })
    }

    /// Returns what the kernel knows about the interface `name`.
    ///
    /// # Errors
    /// When there is none, or the kernel does not answer.
    pub fn get(&mut self, name: &str) -> Result<Interface, NetifError> {
        let mut request = named(name);
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let request = RouteNetlinkMessage::GetLink(request);
        let answers = self.change(name, || format!("find {name}"), 0, request)?;
        let link = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        let link = link.ok_or_else(|| NetifError::NoInterface(name.to_owned()))?;
        let mut interface = Interface {
            index: link.header.index,
            mtu: 0,
            mac: None,
            up: link.header.flags.contains(LinkFlags::Up),
            running: link.header.flags.contains(LinkFlags::LowerUp),
        };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                LinkAttribute::Address(mac) => interface.mac = mac.try_into().ok(),
                _ => {}
            }
        }
        Ok(interface)
    }

    /// Sets the interface up.
    ///
    /// # Errors
    /// When there is none of this name, or the kernel refuses.
    pub fn set_up(&mut self, name: &str) -> Result<(), NetifError> {
        let mut request = named(name);
        request.header.flags = LinkFlags::Up;
        request.header.change_mask = LinkFlags::Up;
        self.set(name, || format!("set {name} up"), request)
    }

    /// Changes the longest packet that the interface carries, in bytes, without the Ethernet
    /// header.
    ///
    /// # Errors
    /// When there is no interface of this name, or it cannot have this MTU.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), NetifError> {
        let mut request = named(name);
        request.attributes.push(LinkAttribute::Mtu(mtu));
        self.set(name, || format!("set the MTU of {name} to {mtu}"), request)
    }

    /// Changes the Ethernet address of the interface.
    ///
    /// # Errors
    /// When there is no interface of this name, or `mac` is not the address of a single station.
    pub fn set_mac(&mut self, name: &str, mac: [u8; 6]) -> Result<(), NetifError> {
        let mut request = named(name);
        request.attributes.push(LinkAttribute::Address(mac.to_vec()));
        self.set(name, || format!("change the Ethernet address of {name}"), request)
    }

    /// Gives the interface an address, with the network it is on. An IPv6 address is used at once,
    /// without a search for duplicates.
    ///
    /// # Errors
    /// When there is no interface of this name, it has the address already, or it cannot be the
    /// address of an interface.
    pub fn add_address(&mut self, name: &str, address: IpNet) -> Result<(), NetifError> {
        let index = self.get(name)?.index;
        let mut request = AddressMessage::default();
        request.header.family = family(address.addr());
        request.header.prefix_len = address.prefix_len();
        request.header.index = index;
        request.attributes.push(AddressAttribute::Local(address.addr()));
        request.attributes.push(AddressAttribute::Address(address.addr()));
        match address {
            // Smaller networks have no address for all.
            IpNet::V4(v4) if v4.prefix_len() <= 30 => {
                request.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
            }
            IpNet::V4(_) => {}
            IpNet::V6(_) => request.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
        }
        let request = RouteNetlinkMessage::NewAddress(request);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(name, || format!("give {name} the address {address}"), flags, request)?;
        Ok(())
    }

    /// Adds a route: packets to `network` go to the router `via`, which is on the network of an
    /// interface that is up. The whole of a family, 0.0.0.0/0 or `::/0`, is the default route.
    ///
    /// # Errors
    /// When no interface reaches the router, or there is such a route already.
    pub fn add_route(&mut self, network: IpNet, via: IpAddr) -> Result<(), NetifError> {
        let network = network.trunc();
        let mut request = RouteMessage::default();
        request.header.address_family = family(network.addr());
        request.header.destination_prefix_length = network.prefix_len();
        request.header.table = RouteHeader::RT_TABLE_MAIN;
        request.header.protocol = RouteProtocol::Static;
        request.header.scope = RouteScope::Universe;
        request.header.kind = RouteType::Unicast;
        if network.prefix_len() > 0 {
            request.attributes.push(RouteAttribute::Destination(network.addr().into()));
        }
        request.attributes.push(RouteAttribute::Gateway(via.into()));
        let request = RouteNetlinkMessage::NewRoute(request);
        let what = || format!("add the route to {network} by {via}");
        self.netlink.request(what, NLM_F_CREATE | NLM_F_EXCL, request)?;
        Ok(())
    }

    fn set(
        &mut self,
        name: &str,
        what: impl FnOnce() -> String,
        request: LinkMessage,
    ) -> Result<(), NetifError> {
        self.change(name, what, 0, RouteNetlinkMessage::SetLink(request)).map(drop)
    }

    /// Sends a request about the interface `name`.
    fn change(
        &mut self,
        name: &str,
        what: impl FnOnce() -> String,
        flags: u16,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetifError> {
        self.netlink.request(what, flags, request).map_err(|error| match error {
            NetifError::Refused { ref source, .. }
                if source.raw_os_error() == Some(Errno::ENODEV as i32) =>
            {
                NetifError::NoInterface(name.to_owned())
            }
            other => other,
        })
    }
}

/// Makes a request about the interface `name`.
fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
