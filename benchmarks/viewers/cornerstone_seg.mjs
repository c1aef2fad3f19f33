// Decode segmentations with dcmjs and @cornerstonejs/adapters, as OHIF does; print hashes as JSON.
//
//   cd FOLDER_WITH_NODE_MODULES && node --input-type=module - CASES.json < cornerstone_seg.mjs
//
// CASES.json is {name: {images: [files of the CT series], seg: file}}. What is printed is
// {name: {segment number: SHA-256 of its voxels in patient space}}, as `benchmarks.viewers.voxels`
// defines it. The script comes in by standard input so that imports are found where node runs.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { adaptersSEG } from '@cornerstonejs/adapters';
import { metaData } from '@cornerstonejs/core';
import dcmjs from 'dcmjs';

const { DicomMessage, DicomMetaDictionary } = dcmjs.data;
const frames = new Map();

const first = (sequence) => (Array.isArray(sequence) ? sequence[0] : sequence);
const numbers = (values) => Array.from(values, Number);

function readBuffer(path) {
  const { buffer, byteOffset, byteLength } = readFileSync(path);
  return buffer.slice(byteOffset, byteOffset + byteLength);
}

/** Give one data set a frame, with the attributes of its functional groups at the top. */
function listFrames(path) {
  const image = DicomMetaDictionary.naturalizeDataset(DicomMessage.readFile(readBuffer(path)).dict);
  if (!image.PerFrameFunctionalGroupsSequence) return [image];
  const shared = first(image.SharedFunctionalGroupsSequence);
  return image.PerFrameFunctionalGroupsSequence.map((own) => {
    const groups = { ...shared, ...own };
    return {
      ...image,
      ...first(groups.PixelMeasuresSequence),
      ...first(groups.PlaneOrientationSequence),
      ...first(groups.PlanePositionSequence),
    };
  });
}

/** Answer what cornerstone asks of an image; OHIF has such an answer for its own images. */
function provide(type, imageId) {
  const image = frames.get(imageId);
  if (!image) return undefined;
  const orientation = numbers(image.ImageOrientationPatient);
  const [rowSpacing, columnSpacing] = numbers(image.PixelSpacing);
  switch (type) {
    case 'instance':
      return image;
    case 'generalImageModule':
    case 'sopCommonModule':
      return { sopInstanceUID: image.SOPInstanceUID, sopClassUID: image.SOPClassUID };
    case 'generalSeriesModule':
      return { seriesInstanceUID: image.SeriesInstanceUID, modality: image.Modality };
    case 'imagePixelModule':
      return {
        rows: image.Rows,
        columns: image.Columns,
        bitsAllocated: image.BitsAllocated,
        bitsStored: image.BitsStored,
        highBit: image.HighBit,
        samplesPerPixel: image.SamplesPerPixel,
        pixelRepresentation: image.PixelRepresentation,
        photometricInterpretation: image.PhotometricInterpretation,
      };
    case 'imagePlaneModule':
      return {
        rows: image.Rows,
        columns: image.Columns,
        imageOrientationPatient: orientation,
        rowCosines: orientation.slice(0, 3),
        columnCosines: orientation.slice(3),
        imagePositionPatient: numbers(image.ImagePositionPatient),
        rowPixelSpacing: rowSpacing,
        columnPixelSpacing: columnSpacing,
        frameOfReferenceUID: image.FrameOfReferenceUID,
      };
    default:
      return undefined;
  }
}

/** Give the center of a pixel in patient space, in hundredths of a millimeter. */
function toPatient(plane, index) {
  const row = Math.floor(index / plane.columns);
  const column = index % plane.columns;
  return plane.imagePositionPatient.map((corner, axis) =>
    Math.round(
      100 *
        (corner +
          column * plane.columnPixelSpacing * plane.rowCosines[axis] +
          row * plane.rowPixelSpacing * plane.columnCosines[axis])
    )
  );
}

function hashPoints(points) {
  points.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  const bytes = Buffer.alloc(points.length * 12);
  points.flat().forEach((value, index) => bytes.writeInt32LE(value, index * 4));
  return createHash('sha256').update(bytes).digest('hex');
}

async function decode(name, { images, seg }) {
  const imageIds = images.flatMap((path, index) =>
    listFrames(path).map((frame, number) => {
      const imageId = `wadouri:${name}/${index}?frame=${number + 1}`;
      frames.set(imageId, frame);
      return imageId;
    })
  );
  const decoded = await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(
    imageIds,
    readBuffer(seg),
    { metadataProvider: { get: provide } }
  );
  const points = {};
  for (const group of decoded.labelMapImages) {
    group.forEach((labels, index) => {
      const plane = provide('imagePlaneModule', imageIds[index]);
      labels.voxelManager.getScalarData().forEach((segment, pixel) => {
        if (segment) (points[segment] ??= []).push(toPatient(plane, pixel));
      });
    });
  }
  return Object.fromEntries(
    Object.entries(points).map(([segment, own]) => [segment, hashPoints(own)])
  );
}

metaData.addProvider(provide, 1000);
const hashes = {};
for (const [name, series] of Object.entries(JSON.parse(readFileSync(process.argv[2], 'utf8')))) {
  hashes[name] = await decode(name, series);
}
console.log(JSON.stringify(hashes));
process.exit(0);
