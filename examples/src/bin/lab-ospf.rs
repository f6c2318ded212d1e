//! Three routers in a triangle speak OSPF (bird). One link fails, and the traffic finds the way over
//! the third router. `lab::Lab` starts all of it, and takes it down at the end, however that comes.
//!
//! ```text
//! BUSCTL=target/release/busctl cargo run --release -p examples --bin lab-ospf
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab::file::Source;
use lab::{Lab, Plan};

const TRIANGLE: &str = r#"
name = "triangle"

[link.ab]
prefix = "10.1.1.0/30"
ends = ["a", "b"]

[link.bc]
prefix = "10.1.2.0/30"
ends = ["b", "c"]

[link.ca]
prefix = "10.1.3.0/30"
ends = ["c", "a"]

[defaults.run]
forward = true
services = "exec bird -f -c bird.conf -s bird.ctl -P bird.pid"
ready = "birdc -s bird.ctl show status"
files."bird.conf" = """
router id {{ address }};
protocol device { scan time 5; }
protocol kernel { ipv4 { export all; }; }
protocol ospf v2 {
  ipv4 { import all; export none; };
  area 0 { interface "eth*" { type ptp; hello 1; dead 4; }; };
}
"""

[node.a]
[node.b]
[node.c]
"#;

/// How long OSPF may take to find a way.
const CONVERGENCE: Duration = Duration::from_mins(1);

fn main() -> anyhow::Result<()> {
    let plan = Plan::from_toml(TRIANGLE, &Source::new())?;
    let lab = Lab::start(&plan)?;
    lab.wait_ready(Duration::from_secs(30))?;
    // The address of b on the link to c.
    let target = "10.1.2.1";
    println!("a reaches b after {:.1} s", wait_for_way(&lab, target, "10.1.1.2")?);
    lab.set("ab", "partition=on")?;
    println!("with the link cut, by c after {:.1} s", wait_for_way(&lab, target, "10.1.3.2")?);
    lab.set("ab", "partition=off")?;
    println!(
        "with the link healed, directly after {:.1} s",
        wait_for_way(&lab, target, "10.1.1.2")?
    );
    Ok(lab.down()?)
}

/// Waits until a reaches `target` by the router at `via`, and returns how long that took, in seconds.
fn wait_for_way(lab: &Lab, target: &str, via: &str) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let command =
        format!("ip route get {target} | grep 'via {via} ' && ping -n -c 1 -W 1 {target}");
    while begin.elapsed() < CONVERGENCE {
        let found = lab.node("a").exec(&command).context("a cannot run commands")?;
        if found.is_success() {
            return Ok(begin.elapsed().as_secs_f64());
        }
    }
    bail!("a has no way to {target} by {via}:\n{}", lab.log("a").unwrap_or_default());
}
