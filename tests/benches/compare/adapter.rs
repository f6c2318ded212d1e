//! memif, node, bus, node, memif, beside `vde_switch` with a plug on either side: the same frames from one program to another.

use system_tests::require;

use crate::contest::{Judge, Sheet, Target};
use crate::ours::{self, bench, rate};
use crate::vde::Switch;

/// In both, three processes share the processors as the system likes.
pub(crate) fn beside_vde(sheet: &mut Sheet<'_>) {
    let (lab, time) = (ours::lab(), sheet.time());
    let vde = require::program("vde_switch");
    if vde {
        let switch = Switch::start(&lab);
        sheet.heading("from program to program", "million frames/s received", "vde_switch");
        for (frame, target) in [(64, Some(20.0)), (512, None), (1_514, None)] {
            let text = frame.to_string();
            let args = ["adapter", "--frame", &text];
            sheet.row(
                &format!("{frame} bytes"),
                Judge::Ratio(target),
                &mut || rate(&bench(&lab, time, &args)),
                &mut || switch.rate(&lab, frame, time),
            );
        }
    }
    sheet.alone("64 bytes, by itself", "million frames/s", Some(Target::AtLeast(5.0)), &mut || {
        rate(&bench(&lab, time, &["adapter"]))
    });
}
