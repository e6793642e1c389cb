/* The part of NVIDIA's nvml.h that the emulated library speaks: codes and layouts, named for what they mean. */
#ifndef RACKHAND_LAB_NVML_H
#define RACKHAND_LAB_NVML_H

#include "fleet.h"

typedef void *nvmlDevice_t;

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    LIBRARY_NOT_FOUND = 12,
    FUNCTION_NOT_FOUND = 13,
    GPU_IS_LOST = 15,
    RESET_REQUIRED = 16,
    LIB_RM_VERSION_MISMATCH = 18,
    IN_USE = 19,
    INSUFFICIENT_RESOURCES = 23,
    ARGUMENT_VERSION_MISMATCH = 25,
    UNKNOWN = 999,
};

enum { MEMORY_CLOCK = 2 };

struct pci_info { /* 68 bytes */
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};

struct memory { /* 24 bytes */
    unsigned long long total, free, used;
};

struct memory_v2 { /* 40 bytes */
    unsigned version;
    unsigned long long total, reserved, free, used;
};

struct process_info { /* 24 bytes */
    unsigned pid;
    unsigned long long used_bytes;
    unsigned gpu_instance, compute_instance;
};

struct utilization {
    unsigned gpu, memory;
};

struct fabric_info { /* v2: 36 bytes, v3: 40 */
    unsigned version;
    unsigned char cluster_uuid[16];
    int status;
    unsigned clique, state, health_mask;
    unsigned health_summary; /* v3 only */
};

struct fabric_info_v1 {
    unsigned char cluster_uuid[16];
    int status;
    unsigned clique;
    unsigned char state;
};

struct sram_errors { /* v1: 104 bytes */
    unsigned version;
    unsigned long long counts[11];
    unsigned exceeded;
};

struct field_value { /* 40 bytes */
    unsigned field, scope;
    long long timestamp, latency_us;
    unsigned type;
    int result;
    union {
        unsigned u32;
        unsigned long long u64;
    } value;
};

struct attributes {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gpu_slices, compute_slices;
    unsigned long long memory_mib;
};

struct gpu_instance_profile {
    unsigned id, peer_to_peer, slices, most, multiprocessors, copies, decoders, encoders, jpegs, ofas;
    unsigned long long memory_mib;
};

#define GPU_INSTANCE_PROFILE_V2 (sizeof(struct gpu_instance_profile_v2) | 2u << 24)

struct gpu_instance_profile_v2 { /* 152 bytes */
    unsigned version, id, peer_to_peer, slices, most, multiprocessors, copies, decoders, encoders, jpegs, ofas;
    unsigned long long memory_mib;
    char name[96];
};

struct compute_instance_profile { /* v2: 136 bytes */
    unsigned version, id, slices, most, multiprocessors, copies, decoders, encoders, jpegs, ofas;
    char name[96];
};

int answer_text(char *target, unsigned length, const char *text);
int answer_number(unsigned *target, unsigned value);
void answer_bus_id(struct pci_info *pci, const struct place *place);
int find_gpu(nvmlDevice_t handle, struct gpu **gpu);
struct slice *as_slice(nvmlDevice_t handle);
int may_set(nvmlDevice_t handle, struct gpu **gpu);
int mig_is_on(const struct gpu *gpu);

#endif
