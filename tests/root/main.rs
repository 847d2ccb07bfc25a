//! Real tools and real files below scratch roots, as root.

mod cni;
mod modules;
mod numbers;
mod way_back;
