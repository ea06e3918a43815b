//! Sets of tuples as few products of sets: `{get, list} × {pods} × {shop}` in place of every tuple by itself.

use std::collections::{BTreeMap, BTreeSet};

/// A product of one set for each dimension.
pub(crate) type Product<const N: usize> = [BTreeSet<String>; N];

/// Joins products that are equal but for the dimension `along`. They stay disjoint, and their union stays the same.
pub(crate) fn join<const N: usize>(products: Vec<Product<N>>, along: usize) -> Vec<Product<N>> {
    let mut joined: BTreeMap<Product<N>, BTreeSet<String>> = BTreeMap::new();
    for mut product in products {
        let Some(set) = product.get_mut(along).map(std::mem::take) else {
            continue;
        };
        joined.entry(product).or_default().extend(set);
    }
    let with = |(mut product, set): (Product<N>, BTreeSet<String>)| {
        if let Some(place) = product.get_mut(along) {
            *place = set;
        }
        product
    };
    joined.into_iter().map(with).collect()
}

/// Joins along every dimension, first to last, until nothing joins any more.
pub(crate) fn join_all<const N: usize>(mut products: Vec<Product<N>>) -> Vec<Product<N>> {
    loop {
        let before = products.len();
        for along in 0..N {
            products = join(products, along);
        }
        if products.len() == before {
            return products;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuples<const N: usize>(products: &[Product<N>]) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for product in products {
            let mut some: Vec<Vec<String>> = vec![Vec::new()];
            for set in product {
                let longer = some.iter().flat_map(|tuple| {
                    set.iter()
                        .map(move |it| [&tuple[..], std::slice::from_ref(it)].concat())
                });
                some = longer.collect();
            }
            all.extend(some);
        }
        all.sort();
        all
    }

    #[test]
    fn joining_keeps_every_tuple_once_and_no_other() {
        // Every subset of a small world.
        let world: Vec<[&str; 3]> = ["a", "b"]
            .iter()
            .flat_map(|x| ["c", "d"].map(|y| [*x, y, "e"]))
            .chain([["a", "c", "f"], ["b", "d", "f"]])
            .collect();
        for bits in 0..1u32 << world.len() {
            let chosen = world.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            let cells: Vec<Product<3>> = chosen
                .map(|(_, tuple)| tuple.map(|it| BTreeSet::from([it.to_owned()])))
                .collect();
            let joined = join_all(cells.clone());
            assert_eq!(tuples(&joined), tuples(&cells));
        }
        let whole: Vec<Product<3>> = world[..4]
            .iter()
            .map(|tuple| tuple.map(|it| BTreeSet::from([it.to_owned()])))
            .collect();
        assert_eq!(join_all(whole).len(), 1);
    }
}
