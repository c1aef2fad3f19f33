"""Tumor in the liver by clusters of its CT numbers: k-means, DBSCAN, mixtures of Gaussians.

CT numbers are integers, so a liver of millions of voxels has a few hundred different values. What
is clustered are those values with their numbers of voxels as weights: the labels are the same as
those of the voxels, at a fraction of time and memory.
"""
