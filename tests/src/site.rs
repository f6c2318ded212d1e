//! Machines with a cable to one switch. They are network namespaces, and so is the switch.

use serde_json::Value;

use crate::namespace::Namespace;
use crate::{Lab, Process, WAIT_TIMEOUT};

/// See the module. Each machine may have a bus, `NUMBER.bus` in the lab.
pub struct Site<'l> {
    /// Where the files of the machines are.
    pub lab: &'l Lab,
    /// The machines; the first has number 1.
    pub machines: Vec<Namespace<'l>>,
    /// It has a port `uNUMBER` for each machine.
    pub switch: Namespace<'l>,
}

impl<'l> Site<'l> {
    /// Makes machines with the addresses `192.0.2.1`, `192.0.2.2`, ... and `fd02::1`, ...
    ///
    /// # Panics
    /// When namespaces are not [available](crate::namespace::available).
    #[must_use]
    pub fn new(lab: &'l Lab, count: usize) -> Self {
        let switch = Namespace::new(lab);
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        let machine = |number| {
            let machine = switch.beside();
            let peer = machine.id();
            switch.ip(&format!("link add u{number} type veth peer name eth0 netns {peer}"));
            switch.ip(&format!("link set u{number} master br0 up"));
            let addresses = [format!("192.0.2.{number}/24"), format!("fd02::{number}/64")];
            machine.set_up("eth0", addresses.each_ref().map(String::as_str));
            machine.ip("link set lo up");
            machine
        };
        let machines = (1..=count).map(machine).collect();
        Self { lab, machines, switch }
    }

    /// Returns a machine.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn machine(&self, number: usize) -> &Namespace<'l> {
        &self.machines[number - 1]
    }

    /// Returns the path of a machine's bus.
    #[must_use]
    pub fn bus(&self, number: usize) -> String {
        self.lab.arg(&format!("{number}.bus"))
    }

    /// Starts busctl on a machine, and waits until it is ready.
    #[must_use]
    pub fn ready(&self, number: usize, words: &str) -> Process {
        let process = self.machine(number).spawn(self.lab.program(), words.split(' '));
        process.wait_for(0, WAIT_TIMEOUT, "the line `ready`", |line| line.text == "ready");
        process
    }

    /// Returns what the first port of a machine's bus says of the machines it reaches.
    #[must_use]
    pub fn remotes(&self, number: usize) -> Vec<Value> {
        let bus = self.lab.show(&format!("./{number}.bus"));
        bus["ports"][0]["remotes"].as_array().cloned().unwrap_or_default()
    }
}
