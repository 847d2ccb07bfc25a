//! The only place that speaks to OVSDB and to the Open vSwitch daemons.
