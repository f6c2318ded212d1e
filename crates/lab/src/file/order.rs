//! In which order nodes are started.

/// Returns a circle of nodes that wait for each other, if there is one: `after[n]` has the nodes
/// that node `n` waits for.
pub(super) fn circle(after: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        OnPath,
        Done,
    }
    let mut states = vec![State::New; after.len()];
    for start in 0..after.len() {
        if states[start] != State::New {
            continue;
        }
        // The nodes on the way from `start`, each with the number of those behind it already seen.
        let mut path = vec![(start, 0)];
        states[start] = State::OnPath;
        while let Some((node, seen)) = path.last_mut() {
            let Some(next) = after[*node].get(*seen).copied() else {
                states[*node] = State::Done;
                path.pop();
                continue;
            };
            *seen += 1;
            match states[next] {
                State::New => {
                    states[next] = State::OnPath;
                    path.push((next, 0));
                }
                State::OnPath => {
                    let nodes = path.iter().map(|(node, _)| *node);
                    return Some(nodes.skip_while(|node| *node != next).collect());
                }
                State::Done => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_circle_is_found() {
        assert_eq!(circle(&[vec![1], vec![2], vec![1]]), Some(vec![1, 2]));
        assert_eq!(circle(&[vec![0]]), Some(vec![0]));
        assert_eq!(circle(&[vec![1, 2], vec![2], vec![]]), None);
    }

    proptest! {
        #[test]
        fn a_circle_is_one(edges in prop::collection::vec((0_usize..8, 0_usize..8), 0..20)) {
            let mut after = vec![Vec::new(); 8];
            for (from, to) in edges {
                after[from].push(to);
            }
            if let Some(circle) = circle(&after) {
                for (index, node) in circle.iter().enumerate() {
                    prop_assert!(after[*node].contains(&circle[(index + 1) % circle.len()]));
                }
            } else {
                // All can be started, one after the other.
                let mut started = [false; 8];
                for _ in 0..8 {
                    for node in 0..8 {
                        started[node] |= after[node].iter().all(|other| started[*other]);
                    }
                }
                prop_assert!(started.iter().all(|started| *started));
            }
        }
    }
}
