/* What the emulated driver libraries know of a practice host. Test equipment: no product code reads this. */
#ifndef RACKHAND_LAB_FLEET_H
#define RACKHAND_LAB_FLEET_H

#include <stddef.h>

#define MAX_GPUS 16
#define MAX_SLICES 8
#define MAX_PROCESSES 16
#define MAX_PEERS 8
#define MAX_PROFILES 18 /* by their numbers in nvml.h */
#define TEXT 96

enum { KIND_GPU = 1, KIND_SLICE = 2 };

struct process {
    unsigned pid, used_mib, graphics;
};

struct place { /* of something on the PCI bus */
    unsigned domain, bus, device;
};

struct gpu;

struct profile { /* of a slice: its number's place is in the array; nothing is at most 0 times */
    unsigned id, slices, most, memory_mib, multiprocessors, copies, decoders, jpegs, ofas;
    char name[TEXT];
};

struct slice { /* a GPU instance; with `computes` set, one with a compute instance: a MIG device */
    int kind;
    struct gpu *gpu;
    unsigned index, memory_mib, compute_slices, id, computes;
    char name[TEXT], uuid[TEXT];
};

struct gpu {
    int kind;
    unsigned index, brand, architecture, cc_major, cc_minor;
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    unsigned memory_mib, reserved_mib;
    unsigned pcie_gen, pcie_width, pcie_max_width, numa_node;
    unsigned nvlinks, nvlinks_active, nvlink_version, fabric, p2p;
    unsigned ecc, row_remapping, mig_max, slice_count, process_count, lost;
    unsigned power_mw, power_min_mw, power_max_mw, peer_count;
    unsigned power_limit_mw, ecc_off, ecc_off_pending; /* what was set; see nvml_set.c */
    unsigned mig, mig_pending, no_reset; /* MIG: 1 off, 2 on, 0 as its slices say */
    unsigned remap_pending, remap_failed, retired_pending, ecc_uncorrected, sram_exceeded, recovery, clock_events;
    unsigned reset_required;
    struct place peers[MAX_PEERS]; /* the cards at the other ends of its NVLinks; none: NVSwitches */
    char name[TEXT], uuid[TEXT], serial[TEXT];
    struct profile profiles[MAX_PROFILES];
    struct slice slices[MAX_SLICES];
    struct process processes[MAX_PROCESSES];
};

struct fleet {
    unsigned count, init_error, needs_fabric, switch_count;
    struct place switches[MAX_PEERS];
    char loaded_version[TEXT];
    struct gpu gpus[MAX_GPUS];
};

extern struct fleet fleet;

void fleet_read(void);
int fleet_save(void);
int fleet_save_lasting(void);
int fabric_is_ready(void);
int persistence_is_on(void);

#endif
