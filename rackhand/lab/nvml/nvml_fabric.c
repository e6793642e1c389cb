/* libnvidia-ml.so.1 of a practice host: the fabric of NVSwitches. */
#include "nvml.h"

#include <string.h>

#define FABRIC_V2 0x02000024u
#define FABRIC_V3 0x03000028u

static unsigned fabric_state(const struct gpu *gpu)
{
    if (!gpu->fabric || !fleet.needs_fabric)
        return 0; /* not supported */
    return fabric_is_ready() ? 3 : 1; /* completed, not started */
}

int nvmlDeviceGetGpuFabricInfo(nvmlDevice_t handle, struct fabric_info_v1 *info)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    memset(info, 0, sizeof *info);
    info->state = (unsigned char)fabric_state(gpu);
    return SUCCESS;
}

int nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t handle, struct fabric_info *info)
{
    struct gpu *gpu;
    unsigned version = info->version;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    if (version != FABRIC_V2 && version != FABRIC_V3)
        return ARGUMENT_VERSION_MISMATCH;
    memset(info, 0, version & 0xffff);
    info->version = version;
    info->state = fabric_state(gpu);
    if (info->state == 3 && version == FABRIC_V3)
        info->health_summary = 1;
    return SUCCESS;
}
