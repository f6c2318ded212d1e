//! The path memif, node, bus, node, memif, compared with `vde_switch` and a plug on either side:
//! the same frames from one program to another.

use system_tests::require;

use crate::comparison::{Criterion, Table, Target};
use crate::ours::{self, bench, rate};
use crate::vde::Switch;

/// Compares the two. In both, the scheduler distributes three processes over the processors.
pub(crate) fn beside_vde(table: &mut Table<'_>) {
    let (lab, time) = (ours::lab(), table.time());
    let vde = require::program("vde_switch");
    if vde {
        let switch = Switch::start(&lab, 32);
        table.heading("from program to program", "million frames/s received", "vde_switch");
        for (frame, target) in [(64, Some(25.0)), (512, None), (1_514, Some(10.0))] {
            let text = frame.to_string();
            let args = ["adapter", "--frame", &text];
            table.row(
                &format!("{frame} bytes"),
                Criterion::Ratio(target),
                &mut || rate(&bench(&lab, time, &args)),
                &mut || switch.rate(&lab, frame, time),
            );
        }
    }
    for (frame, target) in [("64", 12.0), ("1514", 4.0)] {
        let what = format!("{frame} bytes, by itself");
        table.alone(&what, "million frames/s", Some(Target::AtLeast(target)), &mut || {
            rate(&bench(&lab, time, &["adapter", "--frame", frame]))
        });
    }
}
