/* Reads nvml.conf ("key value" lines written by rackhand.lab.emulation), what was set since, and the version of the
 * loaded module. */
#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fleet fleet;

struct field {
    const char *name;
    size_t offset;
    int is_text;
};

#define NUMBER(member) {#member, offsetof(struct gpu, member), 0}
#define WORDS(member) {#member, offsetof(struct gpu, member), 1}

static const struct field FIELDS[] = {
    NUMBER(brand), NUMBER(architecture), NUMBER(cc_major), NUMBER(cc_minor), NUMBER(domain), NUMBER(bus),
    NUMBER(device), NUMBER(pci_device_id), NUMBER(pci_subsystem_id), NUMBER(memory_mib), NUMBER(reserved_mib),
    NUMBER(pcie_gen), NUMBER(pcie_width), NUMBER(pcie_max_width), NUMBER(numa_node), NUMBER(nvlinks),
    NUMBER(nvlinks_active), NUMBER(nvlink_version), NUMBER(fabric), NUMBER(p2p), NUMBER(ecc), NUMBER(row_remapping),
    NUMBER(mig_max), NUMBER(lost), NUMBER(power_mw), NUMBER(power_min_mw), NUMBER(power_max_mw),
    NUMBER(power_limit_mw), NUMBER(ecc_off), NUMBER(ecc_off_pending), NUMBER(mig_pending),
    NUMBER(remap_pending), NUMBER(remap_failed), NUMBER(retired_pending), NUMBER(ecc_uncorrected),
    NUMBER(sram_exceeded), NUMBER(recovery), NUMBER(clock_events), NUMBER(reset_required), NUMBER(no_reset),
    WORDS(name), WORDS(uuid), WORDS(serial),
};

static const char *place(const char *variable, const char *usual)
{
    const char *chosen = getenv(variable);
    return chosen ? chosen : usual;
}

static unsigned number(const char *text)
{
    return (unsigned)strtoul(text, NULL, 0);
}

static void keep(char *target, const char *text)
{
    strncpy(target, text, TEXT - 1);
    target[TEXT - 1] = 0;
}

static void read_slice(struct gpu *gpu, const char *text)
{
    /* index memory_mib compute_slices id computes uuid name… */
    char uuid[TEXT] = "", name[TEXT] = "";
    unsigned index = 0, memory_mib = 0, compute_slices = 0, id = 0, computes = 0;
    if (sscanf(text, "%u %u %u %u %u %95s %95[^\n]", &index, &memory_mib, &compute_slices, &id, &computes, uuid, name) != 7
        || index >= MAX_SLICES)
        return;
    struct slice *slice = &gpu->slices[index];
    slice->kind = KIND_SLICE;
    slice->gpu = gpu;
    slice->index = index;
    slice->memory_mib = memory_mib;
    slice->compute_slices = compute_slices;
    slice->id = id;
    slice->computes = computes;
    keep(slice->uuid, uuid);
    keep(slice->name, name);
    if (gpu->slice_count <= index)
        gpu->slice_count = index + 1;
}

static void read_profile(struct gpu *gpu, const char *text)
{
    /* number id slices most memory_mib multiprocessors copies decoders jpegs ofas name… */
    unsigned number = MAX_PROFILES, values[9];
    char name[TEXT] = "";
    int read = sscanf(text, "%u %u %u %u %u %u %u %u %u %u %95[^\n]", &number, values, values + 1, values + 2, values + 3,
                      values + 4, values + 5, values + 6, values + 7, values + 8, name);
    if (read != 11 || number >= MAX_PROFILES)
        return;
    memcpy(&gpu->profiles[number], values, sizeof values);
    keep(gpu->profiles[number].name, name);
}

static void read_process(struct gpu *gpu, const char *text)
{
    struct process process = {0, 0, 0};
    if (gpu->process_count < MAX_PROCESSES &&
        sscanf(text, "%u %u %u", &process.pid, &process.used_mib, &process.graphics) == 3)
        gpu->processes[gpu->process_count++] = process;
}

static void read_place(struct place *places, unsigned *count, const char *text)
{
    struct place place;
    if (*count < MAX_PEERS && sscanf(text, "%x:%x:%x", &place.domain, &place.bus, &place.device) == 3)
        places[(*count)++] = place;
}

static void read_gpu_line(struct gpu *gpu, const char *key, const char *value)
{
    if (!strcmp(key, "mig") && (gpu->mig = number(value))) { /* what was there before is gone */
        gpu->slice_count = 0;
        memset(gpu->slices, 0, sizeof gpu->slices);
    }
    if (!strcmp(key, "profile"))
        read_profile(gpu, value);
    if (!strcmp(key, "slice"))
        read_slice(gpu, value);
    if (!strcmp(key, "process"))
        read_process(gpu, value);
    if (!strcmp(key, "peer"))
        read_place(gpu->peers, &gpu->peer_count, value);
    for (size_t i = 0; i < sizeof FIELDS / sizeof FIELDS[0]; i++) {
        char *target = (char *)gpu + FIELDS[i].offset;
        if (strcmp(key, FIELDS[i].name))
            continue;
        if (FIELDS[i].is_text)
            keep(target, value);
        else
            *(unsigned *)(void *)target = number(value);
    }
}

static void read_line(char *line)
{
    line[strcspn(line, "\n")] = 0;
    char *value = strchr(line, ' ');
    if (!value)
        return;
    *value++ = 0;
    if (!strncmp(line, "gpu.", 4)) {
        char *key = strchr(line + 4, '.');
        unsigned index = number(line + 4);
        if (key && index < MAX_GPUS)
            read_gpu_line(&fleet.gpus[index], key + 1, value);
    } else if (!strcmp(line, "count")) {
        fleet.count = number(value) < MAX_GPUS ? number(value) : MAX_GPUS;
    } else if (!strcmp(line, "init_error")) {
        fleet.init_error = number(value);
    } else if (!strcmp(line, "needs_fabric")) {
        fleet.needs_fabric = number(value);
    } else if (!strcmp(line, "switch")) {
        read_place(fleet.switches, &fleet.switch_count, value);
    }
}

static void read_loaded_version(void)
{
    char line[256];
    FILE *file = fopen(place("RACKHAND_LAB_NVIDIA_VERSION", "/proc/driver/nvidia/version"), "r");
    if (!file) /* a unit with a /proc of its own, in which nothing is covered */
        file = fopen("/run/rackhand-lab/driver/nvidia/version", "r");
    if (!file)
        return;
    if (fgets(line, sizeof line, file)) {
        char *after = strstr(line, "x86_64");
        if (after)
            sscanf(after + 6, " %95s", fleet.loaded_version);
    }
    fclose(file);
}

/* By the hardware, when the driver is unloaded. Below /dev because sandboxed units may change GPUs through there. */
static const char *forgotten(void)
{
    return place("RACKHAND_LAB_NVML_SET", "/dev/rackhand-lab/nvml.conf");
}

static const char *lasting(void)
{
    return place("RACKHAND_LAB_INFOROM", "/var/lib/rackhand-lab/inforom.conf");
}

static int read_lines(const char *path)
{
    char line[512];
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file))
        read_line(line);
    fclose(file);
    return 1;
}

void fleet_read(void)
{
    memset(&fleet, 0, sizeof fleet);
    for (unsigned i = 0; i < MAX_GPUS; i++) {
        fleet.gpus[i].kind = KIND_GPU;
        fleet.gpus[i].index = i;
    }
    read_loaded_version();
    if (read_lines(place("RACKHAND_LAB_NVML_CONF", "/etc/rackhand-lab/nvml.conf"))) {
        read_lines(lasting());
        read_lines(forgotten());
    }
}

static int save(const char *path, void (*write_gpu)(FILE *, unsigned, const struct gpu *))
{
    char draft[256];
    snprintf(draft, sizeof draft, "%s.draft", path);
    FILE *file = fopen(draft, "w");
    for (unsigned i = 0; file && i < fleet.count; i++)
        write_gpu(file, i, &fleet.gpus[i]);
    return file && !fclose(file) && !rename(draft, path);
}

static void write_forgotten(FILE *file, unsigned i, const struct gpu *gpu)
{
    fprintf(file, "gpu.%u.power_limit_mw %u\ngpu.%u.ecc_off %u\n", i, gpu->power_limit_mw, i, gpu->ecc_off);
    fprintf(file, "gpu.%u.mig %u\n", i, gpu->mig);
    for (const struct slice *slice = gpu->slices; gpu->mig && slice < gpu->slices + gpu->slice_count; slice++)
        if (slice->kind)
            fprintf(file, "gpu.%u.slice %u %u %u %u %u %s %s\n", i, slice->index, slice->memory_mib, slice->compute_slices,
                    slice->id, slice->computes, slice->uuid, slice->name);
}

static void write_lasting(FILE *file, unsigned i, const struct gpu *gpu)
{
    fprintf(file, "gpu.%u.ecc_off_pending %u\n", i, gpu->ecc_off_pending);
    if (gpu->mig_pending)
        fprintf(file, "gpu.%u.mig_pending %u\n", i, gpu->mig_pending);
}

int fleet_save(void) { return save(forgotten(), write_forgotten); }

int fleet_save_lasting(void) { return save(lasting(), write_lasting); }

int fabric_is_ready(void)
{
    return access(place("RACKHAND_LAB_FABRIC_READY", "/run/nvidia-fabricmanager/ready"), F_OK) == 0;
}

int persistence_is_on(void)
{
    return access(place("RACKHAND_LAB_PERSISTENCED", "/run/nvidia-persistenced/persistence-mode"), F_OK) == 0;
}
