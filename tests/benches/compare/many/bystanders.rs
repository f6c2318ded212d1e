//! Two hosts on a bus, with idle hosts beside them.

use system_tests::Lab;

use super::crowd::{Crowd, Form};
use super::hosts;
use crate::comparison::{Criterion, Table};
use crate::ours;

/// Compares TCP and pings between two hosts with the same on a bus of their own. Both buses are
/// there all the time, and take turns.
pub(super) fn on_a_bus(table: &mut Table<'_>, sizes: &[usize]) {
    let lab = ours::lab();
    table.heading(
        "two hosts on a bus, idle hosts beside them",
        "TCP in Gbit/s; median of pings, asleep, in µs",
        "none beside",
    );
    for form in [Form::Processes, Form::OneProcess] {
        for size in sizes.iter().filter(|size| **size > 0) {
            rows(table, &lab, form, *size);
        }
    }
}

fn rows(table: &mut Table<'_>, lab: &Lab, form: Form, size: usize) {
    let (time, beside) = (table.time(), form.describe(size));
    let [alone, crowded] = ["alone".to_owned(), format!("{form:?}-{size}")]
        .map(|name| lab.arg(&format!("{name}.bus")));
    let crowd = Crowd::on_bus(lab, &crowded, form, size);
    let (alone, crowded) = ([alone.as_str(); 2], [crowded.as_str(); 2]);
    table.row(
        &format!("TCP, {beside}"),
        Criterion::Ratio((size == 64).then_some(0.8)),
        &mut || hosts::tcp(lab, crowded, time),
        &mut || crowd.suspended(|| hosts::tcp(lab, alone, time)),
    );
    table.row(
        &format!("ping, {beside}"),
        Criterion::Cost((size == 64 && form == Form::Processes).then_some(1.3)),
        &mut || hosts::ping(lab, crowded, time),
        &mut || crowd.suspended(|| hosts::ping(lab, alone, time)),
    );
}
