//! Two hosts on a bus, with idle hosts beside them.

use std::cell::RefCell;

use system_tests::Lab;

use super::crowd::{Crowd, Form};
use super::hosts;
use crate::comparison::{Criterion, Table};
use crate::ours;

/// Compares TCP and pings between two hosts with the same on a bus of their own.
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
    let (alone, crowded) = (lab.arg("alone.bus"), lab.arg(&format!("{form:?}-{size}.bus")));
    // Idle hosts take some processor time, and places among the inotify instances of their user. So
    // there are none while theirs is measured.
    let crowd = RefCell::new(None);
    let crowded = || {
        crowd.borrow_mut().get_or_insert_with(|| Crowd::on_bus(lab, &crowded, form, size));
        [crowded.as_str(); 2]
    };
    let alone = || {
        crowd.take();
        [alone.as_str(); 2]
    };
    table.row(
        &format!("TCP, {beside}"),
        Criterion::Ratio((size == 64).then_some(0.8)),
        &mut || hosts::tcp(lab, crowded(), time),
        &mut || hosts::tcp(lab, alone(), time),
    );
    table.row(
        &format!("ping, {beside}"),
        Criterion::Cost((size == 64 && form == Form::Processes).then_some(1.3)),
        &mut || hosts::ping(lab, crowded(), time),
        &mut || hosts::ping(lab, alone(), time),
    );
}
