/* libnvidia-ml.so.1 of a practice host: MIG, what there is of it and how it is cut. A slice has one compute instance. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

enum { AMPERE = 7, MIG_OFF = 1, MIG_ON = 2, COMPUTE_PROFILES = 9 };

/* Compute slices by the number of a compute instance's profile; 0: not on these cards. */
static const unsigned COMPUTE_SLICES[COMPUTE_PROFILES] = {1, 2, 3, 4, 7, 8, 6, 0, 0};

int mig_is_on(const struct gpu *gpu)
{
    return gpu->mig ? gpu->mig == MIG_ON : gpu->slice_count > 0;
}

int nvmlDeviceGetMigMode(nvmlDevice_t handle, unsigned *current, unsigned *pending)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused || !gpu->mig_max)
        return refused ? refused : NOT_SUPPORTED;
    *current = mig_is_on(gpu);
    *pending = gpu->mig_pending ? gpu->mig_pending == MIG_ON : *current;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t handle, unsigned index, nvmlDevice_t *slice)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused || !gpu->mig_max)
        return refused ? refused : NOT_SUPPORTED;
    if (index >= gpu->mig_max)
        return INVALID_ARGUMENT;
    if (index >= gpu->slice_count || !gpu->slices[index].computes)
        return NOT_FOUND;
    *slice = &gpu->slices[index];
    return SUCCESS;
}

int nvmlDeviceIsMigDeviceHandle(nvmlDevice_t handle, unsigned *answer)
{
    struct gpu *gpu;
    struct slice *slice = as_slice(handle);
    int refused = slice ? SUCCESS : find_gpu(handle, &gpu);
    return refused ? refused : answer_number(answer, slice != 0);
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t handle, nvmlDevice_t *device)
{
    struct slice *slice = as_slice(handle);
    if (!slice)
        return INVALID_ARGUMENT;
    *device = slice->gpu;
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(nvmlDevice_t handle, unsigned *id)
{
    struct slice *slice = as_slice(handle);
    return slice ? answer_number(id, slice->index + 1) : INVALID_ARGUMENT;
}

int nvmlDeviceGetComputeInstanceId(nvmlDevice_t handle, unsigned *id)
{
    return as_slice(handle) ? answer_number(id, 0) : INVALID_ARGUMENT;
}

int nvmlDeviceGetAttributes_v2(nvmlDevice_t handle, struct attributes *answer)
{
    struct slice *slice = as_slice(handle);
    if (!slice)
        return INVALID_ARGUMENT;
    struct attributes attributes = {slice->compute_slices * 16, 1, 1, 0, 1, 0, slice->compute_slices, slice->compute_slices, slice->memory_mib};
    *answer = attributes;
    return SUCCESS;
}

/* Cards before Hopper are reset for it, where that can be done, and keep it over boots. */
int nvmlDeviceSetMigMode(nvmlDevice_t handle, unsigned on, unsigned *activation)
{
    struct gpu *gpu;
    int refused = may_set(handle, &gpu);
    if (refused || !gpu->mig_max)
        return refused ? refused : NOT_SUPPORTED;
    unsigned mode = on ? MIG_ON : MIG_OFF;
    *activation = gpu->architecture != AMPERE ? SUCCESS : gpu->no_reset ? RESET_REQUIRED : gpu->process_count ? IN_USE : SUCCESS;
    if (gpu->architecture == AMPERE)
        gpu->mig_pending = mode;
    if (gpu->architecture == AMPERE && !fleet_save_lasting())
        return UNKNOWN;
    if (*activation != SUCCESS)
        return SUCCESS;
    gpu->mig = mode;
    gpu->slice_count = 0;
    return fleet_save() ? SUCCESS : UNKNOWN;
}

static int describe(nvmlDevice_t handle, unsigned number, struct gpu_instance_profile *info)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    if (number >= MAX_PROFILES - 1) /* the last one is younger than these drivers */
        return INVALID_ARGUMENT;
    const struct profile *known = &gpu->profiles[number];
    if (!known->most)
        return NOT_SUPPORTED;
    struct gpu_instance_profile told = {
        known->id, 0, known->slices, known->most, known->multiprocessors, known->copies, known->decoders, 0,
        known->jpegs, known->ofas, known->memory_mib,
    };
    *info = told;
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t handle, unsigned number, struct gpu_instance_profile *info)
{
    return describe(handle, number, info);
}

int nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t handle, unsigned number, struct gpu_instance_profile_v2 *info)
{
    struct gpu_instance_profile told;
    if (info->version != GPU_INSTANCE_PROFILE_V2)
        return ARGUMENT_VERSION_MISMATCH;
    int refused = describe(handle, number, &told);
    if (refused)
        return refused;
    memset(info, 0, sizeof *info); /* its version, too */
    memcpy(&info->id, &told, offsetof(struct gpu_instance_profile, memory_mib));
    info->memory_mib = told.memory_mib;
    snprintf(info->name, sizeof info->name, "MIG %s", ((struct gpu *)handle)->profiles[number].name);
    return SUCCESS;
}

static const struct profile *by_id(const struct gpu *gpu, unsigned id)
{
    for (const struct profile *each = gpu->profiles; each < gpu->profiles + MAX_PROFILES; each++)
        if (each->most && each->id == id)
            return each;
    return NULL;
}

static int has_room(const struct gpu *gpu, const struct profile *wanted)
{
    unsigned slices = wanted->slices, memory_mib = wanted->memory_mib, room_mib = 0, alike = 1;
    for (const struct profile *each = gpu->profiles; each < gpu->profiles + MAX_PROFILES; each++)
        room_mib = each->memory_mib > room_mib ? each->memory_mib : room_mib;
    for (const struct slice *each = gpu->slices; each < gpu->slices + gpu->slice_count; each++) {
        slices += each->kind ? each->compute_slices : 0;
        memory_mib += each->kind ? each->memory_mib : 0;
        alike += each->kind && each->id == wanted->id;
    }
    return slices <= gpu->mig_max && memory_mib <= room_mib && alike <= wanted->most;
}

int nvmlDeviceCreateGpuInstance(nvmlDevice_t handle, unsigned id, struct slice **created)
{
    struct gpu *gpu;
    int refused = may_set(handle, &gpu);
    const struct profile *wanted = refused ? NULL : by_id(gpu, id);
    if (refused || !wanted || !mig_is_on(gpu))
        return refused ? refused : NOT_SUPPORTED;
    unsigned index = 0;
    while (index < MAX_SLICES && gpu->slices[index].kind)
        index++;
    if (index == MAX_SLICES || !has_room(gpu, wanted))
        return INSUFFICIENT_RESOURCES;
    struct slice slice = {KIND_SLICE, gpu, index, wanted->memory_mib, wanted->slices, id, 0, "", ""};
    snprintf(slice.name, sizeof slice.name, "%.60s MIG %.30s", gpu->name, wanted->name);
    snprintf(slice.uuid, sizeof slice.uuid, "MIG-%08x%.40s", index, gpu->uuid + strlen("GPU-") + 8);
    gpu->slices[index] = slice;
    gpu->slice_count = index < gpu->slice_count ? gpu->slice_count : index + 1;
    gpu->mig = MIG_ON;
    *created = &gpu->slices[index];
    return fleet_save() ? SUCCESS : UNKNOWN;
}

int nvmlDeviceGetGpuInstances(nvmlDevice_t handle, unsigned id, struct slice **found, unsigned *count)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused || !gpu->mig_max)
        return refused ? refused : NOT_SUPPORTED;
    *count = 0;
    for (unsigned i = 0; i < gpu->slice_count; i++)
        if (gpu->slices[i].kind && gpu->slices[i].id == id)
            found[(*count)++] = &gpu->slices[i];
    return SUCCESS;
}

/* A slice as it is now, for its instances are changed by whoever may change its card. */
static int may_change(struct slice *slice)
{
    struct gpu *gpu;
    return as_slice(slice) ? may_set(slice->gpu, &gpu) : INVALID_ARGUMENT;
}

static int save_slice(struct slice *slice)
{
    slice->gpu->mig = MIG_ON;
    return fleet_save() ? SUCCESS : UNKNOWN;
}

int nvmlGpuInstanceDestroy(struct slice *slice)
{
    int refused = may_change(slice);
    if (refused || slice->computes)
        return refused ? refused : IN_USE;
    slice->kind = 0;
    return save_slice(slice);
}

int nvmlGpuInstanceGetComputeInstanceProfileInfoV(struct slice *slice, unsigned number, unsigned engine, struct compute_instance_profile *info)
{
    if (!as_slice(slice) || number >= COMPUTE_PROFILES || engine)
        return INVALID_ARGUMENT;
    if (!COMPUTE_SLICES[number] || COMPUTE_SLICES[number] > slice->compute_slices)
        return NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    info->id = number;
    info->slices = COMPUTE_SLICES[number];
    info->most = slice->compute_slices / info->slices;
    return SUCCESS;
}

int nvmlGpuInstanceCreateComputeInstance(struct slice *slice, unsigned id, struct slice **created)
{
    int refused = may_change(slice);
    if (refused)
        return refused;
    if (id >= COMPUTE_PROFILES || COMPUTE_SLICES[id] != slice->compute_slices || slice->computes)
        return INSUFFICIENT_RESOURCES;
    slice->computes = 1;
    *created = slice;
    return save_slice(slice);
}

int nvmlGpuInstanceGetComputeInstances(struct slice *slice, unsigned id, struct slice **found, unsigned *count)
{
    if (!as_slice(slice))
        return INVALID_ARGUMENT;
    *count = slice->computes && COMPUTE_SLICES[id] == slice->compute_slices;
    if (*count)
        found[0] = slice;
    return SUCCESS;
}

int nvmlComputeInstanceDestroy(struct slice *slice)
{
    int refused = may_change(slice);
    if (refused)
        return refused;
    slice->computes = 0;
    return save_slice(slice);
}
