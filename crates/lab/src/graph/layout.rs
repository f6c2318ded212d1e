//! Where the parts of a drawing are: what is joined is near, and no part covers another.
//!
//! Parts begin on circles, and move until their distances are about those of the shortest ways between
//! them (stress majorization: each in turn moves to where the others want it). The result is turned so
//! that it is small, and mirrored so that the first part is at the top left. The same parts are always
//! in the same places.

use std::collections::VecDeque;
use std::f64::consts::TAU;

/// The middle of a part.
pub(super) type Point = (f64, f64);

/// Drawings with more parts stay as they begin: the work grows with the square of their number.
const MAX_MOVED: usize = 200;
/// How often each part moves at most, and the moves that are too short to see.
const ROUNDS: usize = 400;
const SHORT: f64 = 1e-4;
/// How many directions of a quarter turn are tried.
const TURNS: u32 = 18;

/// Returns the places of parts, by the pairs that are joined. The first `outer` parts begin on a
/// circle, the `inner` ones after them on one half as large. Each takes `space`, its width and height
/// with what is free around it.
pub(super) fn places(
    outer: usize,
    inner: usize,
    joined: &[(usize, usize)],
    space: Point,
) -> Vec<Point> {
    let count = outer + inner;
    let radius = outer.max(2 * inner) as f64 / TAU;
    // A single one inside is in the middle.
    let inner_radius = if inner == 1 { 0.0 } else { radius / 2.0 };
    let around = |part: usize, of: usize, radius: f64| {
        let (y, x) = (TAU * (part as f64 / of as f64 - 0.25)).sin_cos();
        (x * radius, y * radius)
    };
    let mut places: Vec<Point> = (0..outer)
        .map(|part| around(part, outer, radius))
        .chain((0..inner).map(|part| around(part, inner, inner_radius)))
        .collect();
    if count <= MAX_MOVED {
        settle(&mut places, &distances(count, joined));
        places = turned(&places, space);
    }
    let scale = scale(&places, space);
    let least = |of: fn(&Point) -> f64| places.iter().map(of).fold(f64::INFINITY, f64::min);
    let (left, top) = (least(|place| place.0), least(|place| place.1));
    places.iter().map(|(x, y)| ((x - left) * scale, (y - top) * scale)).collect()
}

/// Returns the lengths of the shortest ways between parts. Between those that are not joined it is
/// one more than the longest.
fn distances(count: usize, joined: &[(usize, usize)]) -> Vec<Vec<f64>> {
    let mut beside = vec![Vec::new(); count];
    for &(a, b) in joined {
        beside[a].push(b);
        beside[b].push(a);
    }
    let from = |start: usize| {
        let mut ways = vec![None; count];
        ways[start] = Some(0_u32);
        let mut next = VecDeque::from([start]);
        while let Some(part) = next.pop_front() {
            for &other in &beside[part] {
                if ways[other].is_none() {
                    ways[other] = ways[part].map(|way| way + 1);
                    next.push_back(other);
                }
            }
        }
        ways
    };
    let ways: Vec<Vec<Option<u32>>> = (0..count).map(from).collect();
    let longest = ways.iter().flatten().flatten().max().copied().unwrap_or(0);
    let length = |way: Option<u32>| f64::from(way.unwrap_or(longest + 1));
    ways.into_iter().map(|ways| ways.into_iter().map(length).collect()).collect()
}

/// Moves parts until their distances are as wanted, as far as a plane allows.
fn settle(places: &mut [Point], wanted: &[Vec<f64>]) {
    for _ in 0..ROUNDS {
        let mut farthest = 0.0_f64;
        for part in 0..places.len() {
            let (here_x, here_y) = places[part];
            let (mut x, mut y, mut weights) = (0.0, 0.0, 0.0);
            for (other, &(other_x, other_y)) in places.iter().enumerate() {
                if other == part {
                    continue;
                }
                let distance = wanted[part][other];
                let (dx, dy) = (here_x - other_x, here_y - other_y);
                let length = dx.hypot(dy).max(1e-9);
                let weight = distance.powi(-2);
                x += weight * (other_x + dx * distance / length);
                y += weight * (other_y + dy * distance / length);
                weights += weight;
            }
            if weights > 0.0 {
                places[part] = (x / weights, y / weights);
                farthest = farthest.max((x / weights - here_x).hypot(y / weights - here_y));
            }
        }
        if farthest < SHORT {
            break;
        }
    }
}

/// Returns the places in the direction that takes the least area, with the first part at the top left.
fn turned(places: &[Point], space: Point) -> Vec<Point> {
    let (width, height) = space;
    let turn = |number: u32| -> Vec<Point> {
        let (sin, cos) = (TAU / 4.0 * f64::from(number) / f64::from(TURNS)).sin_cos();
        places.iter().map(|(x, y)| (x * cos - y * sin, x * sin + y * cos)).collect()
    };
    let area = |places: &[Point]| {
        let scale = scale(places, space);
        let range = |of: fn(&Point) -> f64| {
            let all = || places.iter().map(of);
            all().fold(f64::NEG_INFINITY, f64::max) - all().fold(f64::INFINITY, f64::min)
        };
        (range(|place| place.0) * scale + width) * (range(|place| place.1) * scale + height)
    };
    let all = (0..2 * TURNS).map(turn).map(|places| (area(&places), places));
    let best = all.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, places)| places);
    let mut best = best.unwrap_or_default();
    let (x, y) = best.iter().fold((0.0, 0.0), |(x, y), place| (x + place.0, y + place.1));
    let many = best.len() as f64;
    let sign = |first: f64, mean: f64| if first > mean + 1e-6 { -1.0 } else { 1.0 };
    if let Some(&first) = best.first() {
        let (mirror_x, mirror_y) = (sign(first.0, x / many), sign(first.1, y / many));
        for place in &mut best {
            *place = (place.0 * mirror_x, place.1 * mirror_y);
        }
    }
    best
}

/// Returns the least factor by which no two parts cover each other.
fn scale(places: &[Point], (width, height): Point) -> f64 {
    let mut scale = 1.0_f64;
    for (index, a) in places.iter().enumerate() {
        for b in &places[..index] {
            let (dx, dy) = ((a.0 - b.0).abs().max(1e-6), (a.1 - b.1).abs().max(1e-6));
            scale = scale.max((width / dx).min(height / dy));
        }
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Point = (150.0, 60.0);

    /// Asserts that no part covers another, and all are in positive places.
    fn check(places: &[Point]) {
        for (index, a) in places.iter().enumerate() {
            assert!(a.0 >= 0.0 && a.1 >= 0.0 && a.0.is_finite() && a.1.is_finite(), "{a:?}");
            for b in &places[..index] {
                let apart =
                    (a.0 - b.0).abs() >= SPACE.0 - 0.01 || (a.1 - b.1).abs() >= SPACE.1 - 0.01;
                assert!(apart, "{a:?} covers {b:?}");
            }
        }
    }

    #[test]
    fn parts_do_not_cover_each_other() {
        let star: Vec<(usize, usize)> = (1..40).map(|leaf| (0, leaf)).collect();
        let path: Vec<(usize, usize)> = (1..12).map(|part| (part - 1, part)).collect();
        for (count, joined) in
            [(0, &[][..]), (1, &[]), (7, &[]), (40, &star), (12, &path), (2, &[(0, 1), (1, 1)])]
        {
            for inner in [0, count / 3] {
                let places = places(count - inner, inner, joined, SPACE);
                assert_eq!(places.len(), count);
                check(&places);
                let again = super::places(count - inner, inner, joined, SPACE);
                assert_eq!(places, again, "the same each time");
            }
        }
    }

    #[test]
    fn a_large_drawing_is_a_circle_around_its_networks() {
        let many = MAX_MOVED + 50;
        let joined: Vec<(usize, usize)> = (0..many).map(|part| (part, many)).collect();
        let places = places(many, 1, &joined, SPACE);
        check(&places);
        let hub = places[many];
        let away = |place: &Point| (place.0 - hub.0).hypot(place.1 - hub.1);
        let radius = away(&places[0]);
        assert!(places[..many].iter().all(|place| (away(place) - radius).abs() < 1.0));
    }

    #[test]
    fn a_grid_is_drawn_as_a_grid() {
        let (columns, rows) = (4, 5);
        let mut joined = Vec::new();
        for part in 0..columns * rows {
            if part % columns > 0 {
                joined.push((part - 1, part));
            }
            if part >= columns {
                joined.push((part - columns, part));
            }
        }
        let places = places(columns * rows, 0, &joined, SPACE);
        check(&places);
        // No line is longer than two others: a fold or a twist would need one.
        let lengths: Vec<f64> = joined
            .iter()
            .map(|&(a, b)| (places[a].0 - places[b].0).hypot(places[a].1 - places[b].1))
            .collect();
        let most = lengths.iter().copied().fold(0.0, f64::max);
        let least = lengths.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(most < 2.0 * least, "{least} to {most}");
    }
}
